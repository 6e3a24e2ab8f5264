"""Results of vLLM's benchmarks: ``vllm bench serve``, its sweeps, ``throughput``, ``latency`` and ``startup``."""
