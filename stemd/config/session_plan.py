"""What an unattended session is asked to do: a named series of scans of one pipeline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, ConfigDict, Field, field_validator, model_validator

from stemd.documents import jsonable
from stemd.typed import Table

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0.0, le=30 * 86400.0)]


class EndConditions(Table):
    """What ends a session before its time.

    `failed_scans`: so many scans one after the other that are not complete. `lost_dose`: the
    mean counts of a position fall below this part of the first complete scan's. `min_free_gb`:
    less free space than this. `silence_s`: no scan begins for so long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    failed_scans: Count | None = None
    lost_dose: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    min_free_gb: Annotated[float, Field(gt=0.0, le=1e9)] | None = 1.0
    silence_s: Annotated[float, Field(gt=0.0, le=30 * 86400.0)] | None = None


class SessionPlan(Table):
    """A `[[session]]` of the config, or the `args` of a `session` command.

    Ends after `scans` scans (those that a fault cut off do not count), at `until` (UTC), or
    when told to. `settings` hold from the beginning; `each` is a list of settings, one a scan,
    begun anew when it is through. `start` true: every scan is started through the camera's
    control port; false: scans are waited for. `pause_s` lies between two scans.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}$")]
    pipeline: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] | None = None
    scans: Count | None = None
    until: AwareDatetime | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    each: Annotated[tuple[dict[str, Any], ...], Field(max_length=1000)] = ()
    start: bool = True
    pause_s: Seconds = 0.0
    end: EndConditions = EndConditions()

    @field_validator("until", mode="before")
    @classmethod
    def _with_zone(cls, value: Any) -> Any:
        """A time without a zone is UTC."""
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise ValueError('must be a time like "2026-03-02T06:00:00Z"') from None
        if isinstance(value, datetime) and value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        return value

    @model_validator(mode="after")
    def _settings_are_live(self) -> Self:
        for change in (self.settings, *self.each):
            if "id" in change or "revision" in change:
                raise ValueError("settings of a session have neither id nor revision")
        return self

    def change_for(self, number: int) -> dict[str, Any]:
        """Settings of scan `number` (from 0) alone, {} for none."""
        return self.each[number % len(self.each)] if self.each else {}

    @property
    def wish(self) -> Any:
        """What is asked for, as plain JSON types: equal for plans that mean the same."""
        return jsonable(self.model_dump(exclude={"pipeline"}))

    @property
    def until_ns(self) -> int | None:
        """The end in nanoseconds since the epoch."""
        return None if self.until is None else int(self.until.timestamp() * 1e6) * 1000
