"""Networks of ONNX Runtime made slow, in every Python process that is started with `environment`.

Slow in the daemon while a file `slow` is in the folder, and stopped in the process that completes
images while a file `hold` is there. That process has an ordinary priority, so that no test takes
longer on a busy machine; a file `yielded` says that it wanted the lowest.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

SLOW_S = 0.5
"""A batch."""
LATEST_S = 0.5
"""So small a scan does not wait long enough for AIRPI to become coarser otherwise."""

SITE = """\
from pathlib import Path

from tests.daemon.slow_network import install

install(Path({folder!r}))
"""


def environment(folder: Path) -> dict[str, str]:
    """Write what Python runs at its start into the folder; the variables that make it do so."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE.format(folder=str(folder)))
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}


def install(folder: Path) -> None:
    """Slow the networks of this process down."""
    from stemd.engines.airpi import coarseness
    from stemd.inference.onnxruntime import OnnxRuntimeNetwork
    from stemd.offline import idle

    coarseness.LATEST_S = LATEST_S
    run = OnnxRuntimeNetwork.run
    idle.yield_to_others = (folder / "yielded").touch
    completes = "stemd.offline.completion" in sys.orig_argv

    def slow(self: OnnxRuntimeNetwork, batch: object) -> object:
        while completes and (folder / "hold").exists():
            time.sleep(0.01)
        if not completes and (folder / "slow").exists():
            time.sleep(SLOW_S)
        return run(self, batch)  # type: ignore[arg-type]

    OnnxRuntimeNetwork.run = slow  # type: ignore[assignment,method-assign]
