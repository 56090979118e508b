"""The items: ids and titles, the trie of their semantic IDs, and the search over it."""
