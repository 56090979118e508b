"""Files: whole or not at all, checked headers, strict JSON."""
