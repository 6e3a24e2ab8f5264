"""Drive an OpenAI-compatible server with a planned load and record when each part of each answer arrived."""
