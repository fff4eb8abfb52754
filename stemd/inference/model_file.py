"""An ONNX file as bytes: its checksum and the notes its maker left, read without any library."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from stemd.errors import ModelError
from stemd.inference.protobuf import fields, skim

MAX_BYTES = 2 * 1024**3
"""What a protobuf message, and so an ONNX file without side files, can hold."""
_GRAPH, _METADATA = 7, 14  # fields of ModelProto, onnx.proto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
COPIES = 3
"""Of a model's bytes in memory while a library loads it."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A network as stored. `metadata` is the file's own, `sha256` of all its bytes."""

    name: str
    data: bytes = field(repr=False)
    sha256: str
    metadata: Mapping[str, str]

    def number(self, key: str, default: int) -> int:
        """A whole number of the metadata. Raises ModelError when it is none, or below 1."""
        text = self.metadata.get(key, str(default))
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise ModelError(
                f"model {self.name}: its metadata say {key} = {text!r}, which is not a number "
                "of 1 or more",
                "export or import the model again",
            )
        return int(text)


def read_model(path: Path) -> ModelFile:
    """Read an ONNX file. Raises ModelError when it is missing, too large or not ONNX."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(
                f"{path}: {size:,} bytes are more than an ONNX file can have", "check the file"
            )
        with path.open("rb") as file:
            if not _is_model(file, size):  # two gigabytes of something else are not read
                raise _not_onnx(str(path))
            if COPIES * size > psutil.virtual_memory().available:
                raise ModelError(
                    f"{path}: there is not enough memory for a model of {size:,} bytes",
                    "free memory, or name a smaller model",
                )
            file.seek(0)
            data = file.read(size)
    except OSError as error:
        raise ModelError(
            f"{path}: the model cannot be read: {error.strerror or error}",
            "stemd models list shows the models that are there",
        ) from error
    return model_of(data, path.stem, str(path))


def _is_model(file: BinaryIO, size: int) -> bool:
    """Whether it has the fields of a model, and these one graph with the fields of a graph."""
    fields_of_model = skim(file, 0, size) or []
    graphs = [(begin, length) for number, begin, length in fields_of_model if number == _GRAPH]
    return len(graphs) == 1 and skim(file, *graphs[0]) is not None


def model_of(data: bytes, name: str, source: str = "") -> ModelFile:
    """A model from the bytes of an ONNX file. Raises ModelError when they are none."""
    metadata: dict[str, str] = {}
    graphs = 0
    try:
        for number, value in fields(data):
            graphs += number == _GRAPH
            if number == _METADATA and isinstance(value, memoryview):
                entry = {key: _text(part) for key, part in fields(value)}
                metadata[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    except (ValueError, IndexError) as error:
        raise _not_onnx(source or name) from error
    if graphs != 1:
        raise _not_onnx(source or name)
    return ModelFile(name, data, hashlib.sha256(data).hexdigest(), metadata)


def _text(value: int | memoryview) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else str(value)


def _not_onnx(source: str) -> ModelError:
    return ModelError(f"{source}: is not a complete ONNX model", "copy or import the model again")
