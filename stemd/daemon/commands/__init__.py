"""One module a command: HELP, EXAMPLE, `configure` for its arguments, `run`."""
