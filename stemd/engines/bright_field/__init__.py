"""The bright-field discs of a scan: kept as whole counts, for engines that make a phase of them."""
