"""From patterns to images: each module knows arrays and physics and nothing else."""
