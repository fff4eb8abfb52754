"""stemd in a notebook: patterns in, named images out.

    from stemd import api

    image = api.ricom(data, kernel_size=61)                # data: array or path of a recording
    images = api.process("scan.mib", ["com", "ssb"], scan=(256, 256), optics=optics)
    scan = api.open_scan("stemd-data/2025-11-29/20251129T101500000Z-1a2b")

`data` is 4D (y, x, ky, kx), or 3D (n, ky, kx) with `scan=(ny, nx)`: a NumPy array, a memmap, a
dask array (read chunk by chunk), anything indexed like one (h5py, zarr), or the path of a
recording that stemd opens. Arrays are counts, (y, x) ordered; docs/conventions.md has all axes,
signs and units, docs/reference/api.md every function. Errors are `StemdError`: what is wrong, and
what to do.
"""

from stemd.acquisition import Optics, Scan
from stemd.api.images import About, Image, Images, NoImageError, StemdWarning
from stemd.api.one_image import airpi, com, icom, ricom, ssb, virtual_detectors
from stemd.api.past_scan import PastScan, Patterns, open_scan
from stemd.api.processing import process
from stemd.api.restored import restore
from stemd.api.rotation import Rotation, estimate_rotation
from stemd.errors import StemdError

__all__ = [
    "About",
    "Image",
    "Images",
    "NoImageError",
    "Optics",
    "PastScan",
    "Patterns",
    "Rotation",
    "Scan",
    "StemdError",
    "StemdWarning",
    "airpi",
    "com",
    "estimate_rotation",
    "icom",
    "open_scan",
    "process",
    "restore",
    "ricom",
    "ssb",
    "virtual_detectors",
]
