"""The local web app and its HTTP API: what the verbs answer, kept warm, for people and for programs."""
