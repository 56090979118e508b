"""Engines: what runs a bundle's model."""
