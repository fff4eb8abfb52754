"""What stays: the scan folders, their catalogue, records, retention and recovery."""
