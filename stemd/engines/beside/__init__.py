"""Work beside a scan: engines that take longer than a camera can wait."""
