"""The tables of the catalogue."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from stemd.errors import SinkError

SCHEMA_VERSION = 1


def _of_summary(path: str) -> str:
    """A value in the summary, null in one that is damaged."""
    return f"CASE WHEN json_valid(summary) THEN json_extract(summary, '{path}') END"


STATUS = f"coalesce({_of_summary('$.status')}, status)"
"""A status that the table's own check does not know stands in the summary."""
DELETED = f"coalesce({_of_summary('$.deleted.what')}, '')"
COMPLETION = _of_summary("$.completion.status")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scans (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    instrument TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('acquiring', 'complete', 'incomplete', 'aborted')),
    started_ns INTEGER NOT NULL,
    finished_ns INTEGER,
    ny INTEGER NOT NULL,
    nx INTEGER NOT NULL,
    positions_done INTEGER NOT NULL DEFAULT 0,
    positions_total INTEGER NOT NULL,
    folder TEXT NOT NULL,
    results TEXT NOT NULL DEFAULT '[]',
    bytes INTEGER NOT NULL DEFAULT 0,
    summary TEXT NOT NULL DEFAULT '{}',
    owner TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS scans_by_time ON scans (started_ns);
CREATE INDEX IF NOT EXISTS scans_by_status ON scans (status);
"""
# additions: who does not know them is not disturbed
_ADDITIONS = f"""
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS scans_deleted
    ON scans (instrument, {DELETED}, started_ns, id);
CREATE INDEX IF NOT EXISTS scans_by_completion
    ON scans ({COMPLETION}, started_ns);
CREATE INDEX IF NOT EXISTS scans_by_owner ON scans (owner) WHERE owner != '';
"""


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables that are not there. Raises sqlite3.Error; SinkError for another schema."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    check_version(db, path)
    db.executescript(_ADDITIONS)


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Raises SinkError when another stemd has made the tables, in another way."""
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found != SCHEMA_VERSION:
        raise SinkError(
            f"{path}: the catalogue has schema {found}, this stemd knows {SCHEMA_VERSION}",
            "use the newer stemd that wrote it" if found > SCHEMA_VERSION else "move it away",
        )
