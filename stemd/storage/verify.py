"""Whether a scan's files are still what was written."""

from __future__ import annotations

from pathlib import Path

from stemd.errors import FormatError, SinkError
from stemd.storage.files import hash_file, plain_file_name
from stemd.storage.folder import SCAN_FILE
from stemd.storage.scan_document import read_scan_document


def verify(folder: Path) -> list[str]:
    """What is wrong with a scan's folder, [] when every listed file has its size and checksum.

    Reads whole files.
    """
    try:
        files = read_scan_document(folder)["files"]
        listed = [(file["name"], file["bytes"], file["sha256"]) for file in files]
    except OSError as error:
        return [f"{folder / SCAN_FILE}: {error.strerror or error}"]
    except FormatError as error:
        return [f"{folder / SCAN_FILE}: is damaged: {error.message}"]
    except KeyError as error:
        return [f"{folder / SCAN_FILE}: is damaged: it has no {error}"]
    problems = []
    for name, size, digest in listed:
        try:
            found = hash_file(folder / plain_file_name(name))
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
    return problems
