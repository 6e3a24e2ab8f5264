"""What to measure next: strategies, what is believed, budget, ask and tell."""
