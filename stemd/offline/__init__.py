"""Recorded scans: processed, spread over a cluster, replayed, completed."""
