"""Whether a scan's files are still what was written."""

from __future__ import annotations

from pathlib import Path

from stemd.errors import SinkError, StemdError
from stemd.storage.files import PART, hash_file, plain_file_name
from stemd.storage.folder import SCAN_FILE
from stemd.storage.scan_document import read_scan_document


def verify(folder: Path) -> list[str]:
    """What is wrong with a scan's folder, [] when every listed file has its size and checksum.

    What its scan.json says was not written is wrong, too. Reads whole files.
    """
    try:
        document = read_scan_document(folder)
        listed = [(str(f["name"]), int(f["bytes"]), str(f["sha256"])) for f in document["files"]]
        lost = [str(what) for what in document.get("not_written") or ()]
    except OSError as error:
        return [f"{folder / SCAN_FILE}: {error.strerror or error}"]
    except (StemdError, ValueError, KeyError, TypeError, OverflowError) as error:
        return [f"{folder / SCAN_FILE}: is damaged: {error}"]
    problems = [f"was not written: {what}" for what in lost]
    for name, size, digest in listed:
        try:
            found = hash_file(folder / _plain(name))
        except FileNotFoundError:
            problems.append(f"{name}: is missing")
        except OSError as error:
            problems.append(f"{name}: cannot be read: {error.strerror or error}")
        except SinkError as error:
            problems.append(error.message)
        else:
            if found.bytes != size:
                problems.append(f"{name}: has {found.bytes} bytes, {size} were written")
            elif digest and found.sha256 != digest:
                problems.append(f"{name}: its bytes have changed (checksum)")
    left = sorted(path.name for path in folder.glob(f"*{PART}"))
    return [*problems, *(f"{name}: a record that was never finished" for name in left)]


def _plain(name: str) -> str:
    """The name, which may be that of a record that did not get its own. Raises SinkError."""
    plain_file_name(name.removesuffix(PART))
    return name
