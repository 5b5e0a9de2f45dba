"""Preferences: which of two answers is better. Losses as functions of numbers; tasks on them."""
