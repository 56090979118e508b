"""Llama models trained elsewhere: read their weights and item index, convert them to bundles."""
