"""`python -m stemd` is the `stemd` command."""

import sys

from stemd.daemon.cli import main

if __name__ == "__main__":
    sys.exit(main())
