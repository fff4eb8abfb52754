"""The arguments that describe a microscope, its scan and its detector; and what they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from stemd.acquisition import Optics, Scan
from stemd.errors import UsageError
from stemd.virtual.argument_types import (
    count,
    not_negative,
    number,
    pair,
    positive,
    repeats,
    shape,
)

if TYPE_CHECKING:  # they compile kernels, which --help need not wait for
    from stemd.aberrations import Aberrations
    from stemd.virtual.diffraction import Camera
    from stemd.virtual.microscope import Microscope, Setup


def add_microscope(parser: argparse.ArgumentParser) -> None:
    """Arguments from which `setup` makes a microscope."""
    _add_optics(parser)
    _add_scan(parser)
    _add_detector(parser)


def setup(args: argparse.Namespace) -> Setup:
    """The microscope's setup. Raises UsageError."""
    from stemd.beam import Beam
    from stemd.virtual.microscope import Setup

    frame_time = 1 / args.rate if args.rate > 0 else 1e-4
    scan = _scan(args, frame_time)
    if args.convergence >= 200:
        raise UsageError(
            f"--convergence {args.convergence:g} mrad is not a probe", "typical are 5 to 30 mrad"
        )
    return Setup(
        scan=scan,
        specimen=args.specimen,
        thickness_angstrom=args.thickness,
        beam=Beam(args.energy, args.convergence, args.defocus, args.cs),
        lens=_lens(args),
        source_size_angstrom=args.source_size,
        camera=_camera(args),
        dose=args.dose_per_area * args.step**2 if args.dose_per_area else args.dose,
        seed=args.seed,
        frame_time_s=frame_time,
        drift_angstrom_per_s=args.drift,
        jitter=args.jitter,
    )


def _add_optics(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("specimen and optics")
    group.add_argument("--specimen", default="nanoparticle", help="default: %(default)s")
    group.add_argument("--thickness", type=positive, default=7.81, metavar="A", help="angstrom")
    group.add_argument("--energy", type=positive, default=300e3, metavar="EV", help="300000 eV")
    group.add_argument("--convergence", type=positive, default=20.0, metavar="MRAD", help="20 mrad")
    group.add_argument("--defocus", type=number, default=0.0, metavar="A", help="underfocus > 0")
    group.add_argument(
        "--cs", type=number, default=0.0, metavar="MM", help="spherical aberration, mm"
    )
    for name, letter, text in (
        ("astigmatism", "A1", "two-fold astigmatism"),
        ("coma", "B2", "coma"),
        ("threefold", "A2", "three-fold astigmatism"),
    ):
        group.add_argument(
            f"--{name}", type=not_negative, default=0.0, metavar="A", help=f"{text} {letter}"
        )
        group.add_argument(
            f"--{name}-deg", type=number, default=0.0, metavar="DEG", help="its azimuth"
        )
    group.add_argument(
        "--source-size", type=not_negative, default=0.0, metavar="A", help="standard deviation"
    )
    group.add_argument(
        "--dose", type=positive, default=1000.0, metavar="E", help="electrons a pattern (1000)"
    )
    group.add_argument(
        "--dose-per-area", type=positive, metavar="E", help="electrons an angstrom^2, instead"
    )


def _lens(args: argparse.Namespace) -> Aberrations:
    from stemd.aberrations import Aberrations

    return Aberrations.of_optics(
        Optics(
            astigmatism_nm=args.astigmatism / 10,
            astigmatism_deg=args.astigmatism_deg,
            coma_nm=args.coma / 10,
            coma_deg=args.coma_deg,
            threefold_nm=args.threefold / 10,
            threefold_deg=args.threefold_deg,
        )
    )


def _add_scan(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scan")
    group.add_argument("--scan", type=shape, default=(128, 128), metavar="YxX", help="128x128")
    group.add_argument("--step", type=positive, default=0.3, metavar="A", help="0.3 angstrom")
    group.add_argument(
        "--flyback", type=count, default=0, metavar="N", help="frames after each line"
    )
    group.add_argument(
        "--leading", type=count, default=0, metavar="N", help="frames before the first"
    )
    group.add_argument("--serpentine", action="store_true", help="odd lines run backwards")
    group.add_argument(
        "--repeats", type=repeats, default=1, metavar="N", help="scans of one place in a row"
    )
    group.add_argument(
        "--drift", type=pair, default=(0.0, 0.0), metavar="Y,X", help="angstrom a second"
    )
    group.add_argument(
        "--jitter", type=not_negative, default=0.0, metavar="STEPS", help="shifts of lines along x"
    )


def _scan(args: argparse.Namespace, frame_time_s: float) -> Scan:
    """The scan that is asked for. Raises UsageError for one that a scan cannot be."""
    try:
        return Scan(
            shape=args.scan,
            flyback=args.flyback,
            leading=args.leading,
            serpentine=args.serpentine,
            repeats=args.repeats,
            step_size_angstrom=args.step,
            dwell_time_us=frame_time_s * 1e6,
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "shape"
        option = {"shape": "scan", "step_size_angstrom": "step", "dwell_time_us": "rate"}
        given = args.scan if key == "shape" else first["input"]
        text = "{}x{}".format(*given) if key == "shape" else f"{given}"
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"--{option.get(key, key)} {text}: {message[:1].lower()}{message[1:]}",
            "ask for less, as --scan 128x128 --step 0.3",
        ) from error


def _add_detector(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("detector")
    group.add_argument("--detector", type=shape, default=(64, 64), metavar="YxX", help="64x64")
    group.add_argument(
        "--pixel-size-mrad", type=positive, metavar="MRAD", help="default: 80 mrad across"
    )
    group.add_argument("--rotation", type=number, default=0.0, metavar="DEG", help="of the camera")
    group.add_argument("--flip", action="store_true", help="the camera sees y and x exchanged")
    group.add_argument(
        "--center-offset", type=pair, default=(0.0, 0.0), metavar="Y,X", help="pixels"
    )
    group.add_argument(
        "--descan", type=pair, default=(0.0, 0.0), metavar="Y,X", help="pixels across the field"
    )
    group.add_argument(
        "--hot-pixels", type=count, default=0, metavar="N", help="pixels that count too much"
    )
    group.add_argument(
        "--dead-pixels", type=count, default=0, metavar="N", help="pixels that count nothing"
    )
    group.add_argument(
        "--point-spread", type=not_negative, default=0.0, metavar="PX", help="standard deviation"
    )
    group.add_argument(
        "--tilt", type=number, default=0.0, metavar="DEG", help="of the detector's plane"
    )
    group.add_argument(
        "--tilt-to", type=number, default=0.0, metavar="DEG", help="direction, from +x to +y"
    )
    group.add_argument(
        "--seed", type=count, default=1, metavar="N", help="of all that is random (default: 1)"
    )
    group.add_argument("--truth", type=Path, metavar="DIR", help="write the true images there")
    group.add_argument(
        "--truth-kernel", type=count, default=21, metavar="N", help="riCOM kernel of the truth"
    )


def _camera(args: argparse.Namespace) -> Camera:
    from stemd.virtual.diffraction import Camera

    return Camera(
        args.detector,
        args.pixel_size_mrad or 80.0 / max(args.detector),
        args.rotation,
        args.flip,
        args.center_offset,
        args.descan,
        args.hot_pixels,
        args.dead_pixels,
        args.point_spread,
        args.tilt,
        args.tilt_to,
    )


def write_truth(microscope: Microscope, args: argparse.Namespace) -> None:
    """Write the true images if asked to."""
    if args.truth is not None:
        from stemd.virtual.truth import write

        write(microscope.truth(), args.truth, args.step, args.truth_kernel)
