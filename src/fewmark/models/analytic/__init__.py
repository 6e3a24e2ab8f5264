"""Models of few terms: the roofline, mechanistic latency, queues of closed loops."""
