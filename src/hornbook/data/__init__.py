"""Texts and labels: where they come from, how they are split, what is wrong with them."""
