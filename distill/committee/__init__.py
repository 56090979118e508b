"""Several teachers as one: weights, and the soft labels that they write."""
