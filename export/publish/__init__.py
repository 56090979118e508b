"""Bundles as signed releases of a repository of static files."""
