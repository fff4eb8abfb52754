"""What frame cameras share: receiving, blocks, placing, scans, files."""
