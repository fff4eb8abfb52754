"""The HDR text that opens an acquisition, also the .hdr file beside a .mib file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FRAMES_KEY = "Frames in Acquisition (Number)"
HDR_BYTES = 2048
_END = b"End\t"


@dataclass(frozen=True, slots=True)
class Hdr(Mapping[str, str]):
    """Keys and values of a HDR text, in order; a mapping. `raw` is the text as it came."""

    raw: bytes
    items_: tuple[tuple[str, str], ...]

    def __getitem__(self, key: str) -> str:
        for name, value in self.items_:
            if name == key:
                return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.items_))

    def __len__(self) -> int:
        return len(dict(self.items_))

    @property
    def text(self) -> str:
        """The text without its padding."""
        return self.raw.rstrip(b"\0 ").decode("latin-1")

    @property
    def frames(self) -> int | None:
        """Frames in the acquisition: 0 is endless, None when the text does not say."""
        return self._number("Frames in Acquisition")

    @property
    def frames_per_trigger(self) -> int | None:
        """Frames that each trigger starts, None when the text does not say."""
        return self._number("Frames per Trigger")

    @property
    def both_counters(self) -> bool:
        """Whether two images are read of each position, one of each counter."""
        return self._value("Active Counters").lower() == "both"

    @property
    def scan_shape(self) -> tuple[int, int] | None:
        """Probe positions (ny, nx) from ScanY and ScanX, which only newer software sends."""
        ny, nx = self._number("ScanY"), self._number("ScanX")
        return (ny, nx) if ny and nx else None

    def _value(self, start: str) -> str:
        """The value of the key that begins so, "" where there is none."""
        for name, value in self.items_:
            # Software versions differ in what they add in brackets after a name.
            if name.split("(")[0].strip().lower() == start.lower():
                return value.strip()
        return ""

    def _number(self, start: str) -> int | None:
        digits = self._value(start)
        return int(digits[:18]) if digits.isascii() and digits.isdigit() else None


def parse_hdr(raw: bytes) -> Hdr:
    """Parse a HDR text: Latin-1 lines "key:TAB value", whatever their line ends and padding.

    Spaces may stand for the TAB, as where an editor has saved the text. Never fails: what is not a
    key and a value is left out. The first of equal keys counts.
    """
    found: dict[str, str] = {}
    for line in raw.rstrip(b"\0 ").decode("latin-1").splitlines():
        key, between, value = line.partition("\t" if "\t" in line else ":")
        if not between or line.startswith(("HDR,", "End\t")):
            continue
        found.setdefault(key.rstrip().removesuffix(":"), value)
    return Hdr(raw, tuple(found.items()))


def encode_hdr(values: Mapping[str, str], *, size: int = HDR_BYTES, pad: bytes = b" ") -> bytes:
    """A HDR text from keys and values in order, padded to at least `size` bytes.

    Pure; characters that Latin-1 does not have become "?".
    """
    lines = [b"HDR,\t\r\n"]
    lines += [f"{key}:\t{value}\r\n".encode("latin-1", "replace") for key, value in values.items()]
    text = b"".join(lines) + _END
    return text + pad * (size - len(text))


def hdr_file(raw: bytes) -> bytes:
    """The content of a .hdr file from the HDR text as received: its end marked, padded as usual."""
    text = raw.rstrip(b"\0 ")
    lines = text.splitlines()
    if not lines or not lines[-1].startswith(b"End"):
        text = text.rstrip(b"\r\n") + b"\r\nEnd"
    text = text.rstrip(b"\t") + b"\t"
    return text + b" " * (HDR_BYTES - len(text))
