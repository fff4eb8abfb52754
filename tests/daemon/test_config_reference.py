"""The reference names every key of the tables it describes, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from stemd.config.mqtt import MqttSettings
from stemd.config.page import PageSettings
from stemd.config.session_plan import EndConditions, SessionPlan
from stemd.config.tables import AboutTable, DaemonTable, RecordTable, RetentionTable

PAGE = Path(__file__).parents[2] / "docs/reference/config.md"
TABLES: dict[str, tuple[type[BaseModel], set[str]]] = {
    "[daemon]": (DaemonTable, {"retention"}),
    "[daemon.retention]": (RetentionTable, set()),
    "[mqtt]": (MqttSettings, set()),
    "[page]": (PageSettings, set()),
    "[pipeline.record]": (RecordTable, set()),
    "[pipeline.about]": (AboutTable, set()),
    "[[session]]": (SessionPlan, {"end"}),
    "[session.end]": (EndConditions, set()),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_key_of_a_table_is_described_and_no_other(name: str) -> None:
    model, tables = TABLES[name]
    section = PAGE.read_text().split(f"## `{name}`\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(model.model_fields) - tables
