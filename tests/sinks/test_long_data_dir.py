"""A data folder whose path is too long for SQLite: the remedy says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemd.errors import SinkError
from stemd.storage.catalogue.database import CATALOGUE_FILE, LONGEST, Database


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_path_is_opened_and_a_longer_one_named(tmp_path: Path, more: int) -> None:
    wanted = LONGEST + more - len(CATALOGUE_FILE) - 1
    folder = tmp_path
    while (left := wanted - len(str(folder)) - 1) > 200:
        folder /= "d" * 100
    folder /= "e" * left
    folder.mkdir(parents=True)
    database = Database(folder)
    try:
        if more:
            with pytest.raises(SinkError) as error:
                database.check()
            assert f"{LONGEST + 1} bytes" in error.value.remedy
            assert "shorter data_dir" in error.value.remedy
        else:
            database.check()
    finally:
        database.close()
