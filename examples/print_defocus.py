"""Print the defocus of each scan, with its standard error, until Ctrl-C.

stemd demo --defocus-nm 5
python examples/print_defocus.py
"""

from __future__ import annotations

import sys

from stemd.client import Client


def main(url: str, scans: int) -> None:
    """Look at so many scans."""
    with Client(url) as stemd:
        for _ in range(scans):
            scan = stemd.wait_for_scan()
            defocus = stemd.wait_for_optics(scan.id).defocus_nm
            if defocus is None:
                print(f"{scan.id}: the data do not show the lens")
            else:
                print(f"{scan.id}: {defocus.value:+.2f} ± {defocus.sigma:.2f} nm")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["mqtt://127.0.0.1:1883"]), scans=1_000_000)
