"""What the live page costs a scan, and how fast it is."""
