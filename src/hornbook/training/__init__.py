"""The training step and what surrounds it: precision, optimiser, schedule, the loop."""
