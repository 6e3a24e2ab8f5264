"""What a case takes of memory, whether it fits, and what running out of it looks like."""
