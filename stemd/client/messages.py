"""stemd's JSON messages as typed values. Pure: bytes in, values out.

Each has the whole `document` beside its fields: docs/asyncapi.yaml describes every key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, cast

from stemd.client.errors import RefusedError
from stemd.documents import Json, object_from_json
from stemd.errors import FormatError

T = TypeVar("T")
PipelineState = Literal["stopped", "waiting", "acquiring", "finishing", "fault"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong now: what kind, in a sentence, and what to do."""

    kind: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class State:
    """What a pipeline does now.

    `scan` is the id of the running or last scan, None before the first; `shape` is (ny, nx);
    `missing` counts positions without data; `errors` lists what is wrong, the newest first.
    """

    state: PipelineState
    scan: str | None
    shape: tuple[int, int] | None
    positions_done: int
    positions_total: int
    missing: int
    positions_per_second: float
    camera_connected: bool
    recording: bool
    errors: tuple[Problem, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan that is over.

    `status` is `complete`, `incomplete`, `aborted` or `not recorded`; `shape` is (ny, nx);
    `files` are the names of the files in its folder.
    """

    id: str
    status: str
    shape: tuple[int, int]
    step_size_angstrom: float | None
    positions_done: int
    positions_total: int
    missing: int
    files: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Measured:
    """A quantity as the data have it, in the unit of its name.

    `sigma` is its standard error, None where it has none. `told` is what the settings say, and
    `agrees` whether both agree; None where nothing was told. `angle_deg` is the direction of an
    astigmatism or coma in the scan.
    """

    value: Any
    sigma: float | None
    told: Any
    agrees: bool | None
    angle_deg: float | None = None


@dataclass(frozen=True, slots=True)
class Optics:
    """The optics of a scan as its data have them; None where they cannot say.

    `preliminary`: measured in the first `lines` lines of a scan that goes on; the whole follows.
    `agrees`: whether the data have what was told; None where they do not show the lens.
    `quality` (0 to 1) tells how clearly the lens stands out; `usable` are keys of the settings'
    section `optics` with what was measured and is not as told. `not_measured`: why there is no
    defocus, None where there is one.
    """

    scan: str
    started_ns: int
    quality: float | None
    agrees: bool | None
    usable: Mapping[str, Any]
    defocus_nm: Measured | None
    astigmatism_nm: Measured | None
    coma_nm: Measured | None
    threefold_nm: Measured | None
    rotation_deg: Measured | None
    flip: Measured | None
    convergence_semi_angle_mrad: Measured | None
    center: Measured | None
    ellipticity_percent: Measured | None
    descan_px: Measured | None
    dose_e_per_square_angstrom: Measured | None
    drift_nm_per_s: Measured | None
    masked_pixels: Measured | None
    preliminary: bool = False
    lines: int | None = None
    not_measured: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """stemd's answer to a request that it has carried out.

    `revision` is that of the settings now in force, None where the reply does not tell; everything
    else is in `document`, or by its key: `reply["files"]`.
    """

    revision: int | None
    document: Mapping[str, Any] = field(repr=False)

    def __getitem__(self, key: str) -> Any:
        return self.document[key]


def read(payload: bytes, parse: Callable[[Json], T], what: str) -> T:
    """A message by the parser of its kind. Raises FormatError, and nothing else."""
    try:
        return parse(object_from_json(payload))
    except FormatError as error:
        raise FormatError(f"{what} {error.message}", error.remedy) from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        text = f"{what} is not as expected: {type(error).__name__}: {error}"
        raise FormatError(text, "are client and daemon of the same version?") from error


def state_of(document: Json) -> State:
    """The state of a pipeline."""
    return State(
        state=cast("PipelineState", str(document["state"])),
        scan=document["scan"],
        shape=_shape(document.get("shape")),
        positions_done=int(document["positions_done"]),
        positions_total=int(document["positions_total"]),
        missing=int(document["missing"]),
        positions_per_second=float(document["positions_per_second"]),
        camera_connected=bool(document.get("camera_connected", False)),
        recording=bool(document.get("recording", False)),
        errors=tuple(
            Problem(str(each.get("kind", "")), str(each["message"]), str(each["remedy"]))
            for each in document["errors"]
        ),
        document=document,
    )


def scan_of(document: Json) -> Scan:
    """A scan that is over, by its document `finished` or `aborted`."""
    shape = document["scan"]["shape"]
    step = document["scan"].get("step_size_angstrom")
    return Scan(
        id=str(document["id"]),
        status=str(document["status"]),
        shape=(int(shape[0]), int(shape[1])),
        step_size_angstrom=None if step is None else float(step),
        positions_done=int(document["positions_done"]),
        positions_total=int(document["positions_total"]),
        missing=int(document["missing"]),
        files=tuple(str(each["name"]) for each in document["files"]),
        settings=document["settings"],
        document=document,
    )


QUANTITIES = tuple(each.name for each in fields(Optics) if each.type == "Measured | None")


def optics_of(document: Json) -> Optics:
    """The measured optics of a scan."""
    return Optics(
        scan=str(document["scan"]),
        started_ns=int(document["started_ns"]),
        quality=document["quality"],
        agrees=document["agrees"],
        usable=dict(document["usable"]),
        preliminary=bool(document.get("preliminary", False)),
        lines=document.get("lines"),
        not_measured=document.get("not_measured"),
        document=document,
        **{name: _measured(document.get(name)) for name in QUANTITIES},
    )


def reply_of(document: Json) -> Reply:
    """The answer to a request. Raises RefusedError where stemd says no."""
    if document["ok"]:
        return Reply(document.get("revision"), document)
    error = document["error"]
    raise RefusedError(str(error["message"]), error["key"], error["allowed"])


def _shape(value: Any) -> tuple[int, int] | None:
    return None if value is None else (int(value[0]), int(value[1]))


def _measured(value: Any) -> Measured | None:
    if value is None:
        return None
    angle = value.get("angle_deg")
    return Measured(value["value"], value["sigma"], value["told"], value["agrees"], angle)
