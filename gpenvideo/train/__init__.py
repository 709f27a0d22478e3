"""Training: data, losses, the loop, and growing a network to the next resolution."""
