"""What runs on the device: bundle, trie, beam search, engines, recommender. Never imports torch."""
