"""How late it is for sure: a clock that has jumped must not make scans old."""

from __future__ import annotations

import time
from pathlib import Path

from stemd.documents import read_object, to_json
from stemd.errors import SinkError, StemdError
from stemd.logs import get_logger
from stemd.storage.files import write_atomic
from stemd.storage.locks import lock_path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
UPTIME = Path("/proc/uptime")
WRITE_EVERY_S = 60.0

log = get_logger(__name__)


class SureClock:
    """The time of day as far as it is vouched for.

    `now_ns` is what the clock says, but never more than has passed since the start. `sure_ns` is
    what an earlier look, kept in the data folder, and the time that has passed since then by the
    computer's own count vouch for: what is later may be a clock that has jumped while stemd did
    not run. All methods block on the disk.
    """

    def __init__(self, data_dir: Path, instrument: str) -> None:
        self._path = lock_path(data_dir, f"clock-{instrument}").with_suffix(".json")
        self._began = time.monotonic()
        self._began_ns = time.time_ns()
        self._sure_ns: int | None = None
        self._written = float("-inf")

    def now_ns(self) -> int:
        """The time of day, which no step of the clock since the start has moved ahead."""
        return min(time.time_ns(), max(self._began_ns, self._sure_at_start) + self._passed)

    def sure_ns(self) -> int:
        """The time that it is at least; 0 when nothing vouches for any."""
        if not self._sure_at_start:
            return 0
        return min(time.time_ns(), self._sure_at_start + self._passed)

    def believe(self) -> None:
        """Take the clock's word from now on."""
        self._sure_ns = self.now_ns() - self._passed

    def keep(self) -> None:
        """Write down, now and then, how late it surely is; a disk in trouble is no error."""
        sure, now = self.sure_ns(), time.monotonic()
        if not sure or now - self._written < WRITE_EVERY_S:
            return
        self._written = now
        about = {"time_ns": sure, "boot_id": _boot_id(), "uptime_s": _uptime_s()}
        try:
            write_atomic(self._path, [to_json(about).encode()])
        except SinkError as error:
            log.debug("the time cannot be saved", error=str(error))

    @property
    def _passed(self) -> int:
        return int((time.monotonic() - self._began) * 1e9)

    @property
    def _sure_at_start(self) -> int:
        if self._sure_ns is None:
            self._sure_ns = self._kept()
        return self._sure_ns

    def _kept(self) -> int:
        """The time kept by an earlier daemon, with what has passed since by the boot clock."""
        try:
            about = read_object(self._path)
        except (OSError, StemdError):
            return 0
        then, uptime = about.get("time_ns"), about.get("uptime_s")
        if not isinstance(then, int) or isinstance(then, bool) or then < 0:
            return 0
        since_start = self._passed
        if about.get("boot_id") == _boot_id() and isinstance(uptime, int | float):
            passed = _uptime_s() - uptime
        else:
            passed = _uptime_s()  # switched off for we do not know how long, and on since
        return max(0, then + int(max(0.0, passed) * 1e9) - since_start)


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _uptime_s() -> float:
    """Seconds since the computer was switched on, which no clock that is set changes."""
    try:
        return float(UPTIME.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
