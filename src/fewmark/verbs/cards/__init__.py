"""What a report shows, as cards."""
