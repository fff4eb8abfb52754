"""Calls into libraries that may never return: how long each has lasted, and what is then said."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stemd.errors import ModelError

LOAD_S = 120.0
"""For loading a network, since the last sign of life (`inference.activity`)."""
RUN_S = 120.0
"""For one batch: even a large one takes seconds on a busy processor."""
REMEDY = "name another model; stemd models check tries one"


@dataclass(slots=True)
class Call:
    """A call that goes on. `key` is that of the network, `doing` what it does, in words."""

    key: Any
    model: str
    doing: str
    limit_s: float
    cancel: Callable[[], None] | None = None
    late: ModelError | None = None
    cancelled: bool = False
    began: float = field(default_factory=time.monotonic)

    def is_late(self, sign: float, most_s: float = math.inf) -> bool:
        """Whether it has lasted too long, also since the last sign of life; see `late` then.

        `most_s`: what is allowed at most now.
        """
        limit_s = min(self.limit_s, most_s)
        if time.monotonic() - max(self.began, sign) <= limit_s:
            return False
        text = f"model {self.model}: it took longer than {limit_s:g} s to {self.doing}"
        self.late = ModelError(f"{text}: it is left out", REMEDY)
        return True
