"""From vectors of items to codebooks and one unique semantic ID an item."""
