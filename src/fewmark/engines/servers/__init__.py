"""Servers that a deployment starts itself: how each is started, when it is ready, and why it failed."""
