"""`python -m stemd` is the `stemd` command."""

import sys

from stemd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
