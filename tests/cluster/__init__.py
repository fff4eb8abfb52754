"""Recordings on a cluster."""
