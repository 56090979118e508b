"""A run's folder, its stages, and what can be made of a finished run."""
