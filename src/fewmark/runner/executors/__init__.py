"""Where cases run: here, in threads, or on Ray."""
