"""Sessions: many scans of one unattended night, counted and summed up."""
