"""Models, one family a file: config, parts, block, model. What a network computes, no more."""
