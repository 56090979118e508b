"""Measures with full ranking, rankers, and the baselines beside every model."""
