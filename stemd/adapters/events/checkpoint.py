"""The state of a decoder's parts as one set of named arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray


class Resumable(Protocol):
    """Something whose state can be taken and given to another of its kind."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of all that it depends on."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on where the one that gave this out was."""
        ...


def gathered(parts: Mapping[str, Resumable]) -> dict[str, NDArray[Any]]:
    """The arrays of all parts, each under "part.array"."""
    return {
        f"{name}.{key}": array
        for name, part in parts.items()
        for key, array in part.state().items()
    }


def handed_out(state: Mapping[str, NDArray[Any]], parts: Mapping[str, Resumable]) -> None:
    """Give every part the arrays that `gathered` took from its like."""
    for name, part in parts.items():
        start = f"{name}."
        part.restore(
            {key.removeprefix(start): a for key, a in state.items() if key.startswith(start)}
        )
