"""The list of all scans, in a file that any number of programs may read."""
