"""From patterns to images: each module knows arrays and physics and nothing else."""

DEFAULT_ENGINES = ("com", "ricom", "icom", "sum", "pacbed")
"""Names of the engines that process a recording where none is named."""
