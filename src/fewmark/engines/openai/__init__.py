"""Any running server of the OpenAI protocol as an engine, and servers that a deployment starts itself."""
