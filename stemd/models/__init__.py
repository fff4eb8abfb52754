"""Small trained networks, as data of the package; README.md tells their origin and licence."""
