"""Smaller number formats as surgery on a finished model."""
