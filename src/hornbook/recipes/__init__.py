"""Recipes: build from settings, run the loop, hand back. Plumbing, and nothing clever."""
