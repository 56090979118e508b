"""A run: its folder, its stages, and what can be made from it when it is finished."""
