"""Evaluation with full ranking: protocol, metrics, rankers and baselines."""
