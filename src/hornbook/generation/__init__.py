"""Text from a language model: transforms of its logits, and the loop that draws tokens."""
