"""The soak: a tool to be run by hand, not part of the tests; see `__main__`."""
