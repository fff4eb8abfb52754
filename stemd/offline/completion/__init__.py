"""Images that lack positions, made again from the scan's record when the scan is over.

`completer` decides what is done when, `queue` keeps what waits, `book` is what scan.json says of
it, `maker` the daemon's side of the process that works, `work` that process. Only the daemon
writes: whatever becomes of the process, a scan's folder is as it was or has whole new files.
"""

YIELD, FULL_SPEED = b"yield\n", b"full speed\n"
"""The first line of what the process is told."""
