"""A bundle beside its peers: latency, throughput, cold start, memory."""
