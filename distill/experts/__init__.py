"""Builds the experts beside the model: the crowd's graph from a log, the word index from texts, and their weights."""
