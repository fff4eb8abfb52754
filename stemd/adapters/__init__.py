"""Cameras and recordings: each module knows one camera's bytes and nothing else."""
