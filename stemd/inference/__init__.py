"""Networks on whatever runs them: one small protocol, a module a backend."""
