"""Results of GuideLLM: its JSON reports from 0.3 on, and its CSV."""
