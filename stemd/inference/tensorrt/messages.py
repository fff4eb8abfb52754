"""What TensorRT says while it works, and how far it is with an engine."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from stemd.inference import activity
from stemd.logs import get_logger

EVERY_S = 10.0
"""Between two lines of the log on the same engine."""

log = get_logger(__name__)


def logger(trt: Any, model: str) -> Any:
    """A logger for TensorRT; `errors` gives its last errors as one text and forgets them."""

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=6)

        def log(self, severity: Any, msg: str) -> None:
            text = " ".join(str(msg).split())
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self._errors.append(text)
                log.warning("TensorRT reports an error", model=model, text=text)
            elif severity == trt.ILogger.Severity.WARNING:
                log.info("TensorRT reports", model=model, text=text)

        def errors(self) -> str:
            text = "; ".join(self._errors)
            self._errors.clear()
            return text[:600] or "it does not say why"

    return Messages()


def monitor(trt: Any, model: str, device: str) -> Any:
    """Tells of an engine's building in the log and the status line; `ended` is to be called."""

    class Progress(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._began = self._told = time.monotonic()
            self._steps: dict[str, int] = {}
            self._about = f"engine {model} {device}"
            activity.tell(self._about, f"building the engine of {model} for {device}")

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            now = time.monotonic()
            steps, seconds = self._steps.get(phase_name, 0), now - self._began
            where = f"{phase_name}, step {step + 1} of {steps}, {seconds:.0f} s"
            activity.tell(self._about, f"building the engine of {model} for {device}: {where}")
            if now - self._told >= EVERY_S:
                self._told = now
                log.info("TensorRT builds an engine", model=model, device=device, at=where)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def ended(self) -> float:
            """Seconds it took."""
            activity.over(self._about)
            return time.monotonic() - self._began

    return Progress()
