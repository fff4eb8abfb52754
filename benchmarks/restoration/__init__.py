"""How good restoration is, against classical filters: see score.py."""
