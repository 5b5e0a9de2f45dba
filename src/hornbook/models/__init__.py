"""Models, one family a file: config, parts, block, model. What the network computes, nothing else."""
