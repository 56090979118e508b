"""Benchmarks of a bundle and of its peers: latency, throughput, cold start, memory."""
