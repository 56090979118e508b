"""Structured pruning: importance, masks, and removal."""
