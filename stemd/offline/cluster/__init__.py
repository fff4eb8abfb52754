"""Recordings spread over a Dask cluster."""
