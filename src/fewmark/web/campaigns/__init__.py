"""Campaigns that the app starts: each a process of its own with a folder of its own; the server may come and go."""
