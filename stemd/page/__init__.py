"""The live page: what the beam sees, in any browser, from the daemon itself."""
