"""Llama models trained elsewhere: reading them and what they call the items."""
