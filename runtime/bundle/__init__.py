"""A bundle: its manifest, its weight file, and the checks before anything is used."""
