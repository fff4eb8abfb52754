"""stemd's own sinks by name: one module each, which imports the heavy part when it is built."""
