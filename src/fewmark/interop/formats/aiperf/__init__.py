"""Results of AIPerf (and its fork agentx-harness) and of genai-perf, from which it came."""
