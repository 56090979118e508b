"""Experts beside the model: the crowd's transitions and the words of the items, joined with it in one score."""
