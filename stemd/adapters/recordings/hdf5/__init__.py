"""Patterns in HDF5 files, whoever wrote them."""
