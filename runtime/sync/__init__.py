"""Refreshed catalogues for a device: signed releases of bundles, fetched, checked, kept and swapped in.

Needs the extra `sync`.
"""
