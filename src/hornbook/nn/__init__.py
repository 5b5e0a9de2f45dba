"""Bricks: modules and functions that take numbers and tensors, never a config.

One legend for shapes: B batch, T query tokens, S key tokens, H heads, D head width, E model width,
V vocabulary, L labels, N documents. `...` stands for (B, T) in a padded batch and for (T,) in a
ragged one; see `layout`.
"""
