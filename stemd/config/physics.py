"""What a config allows and an experiment does not: doubts with numbers, for `stemd check`."""

from __future__ import annotations

from collections.abc import Iterator

from stemd.acquisition import Optics, Scan
from stemd.config.resolved import PipelineConfig
from stemd.scan.doubts import beam_of, doubts_of
from stemd.settings import SlowEngineSettings


def doubts(pipeline: PipelineConfig) -> list[str]:
    """Sentences about what cannot be meant so in one pipeline, each with numbers and a remedy."""
    if pipeline.adapter_plugin.works_on == "images":
        return []
    optics, scan = pipeline.optics, pipeline.adapter.scan
    return [
        *doubts_of(pipeline.settings(), pipeline.adapter.detector_shape()),
        *_overlap(pipeline, optics, scan),
        *_lens(optics, scan),
        *_lacking(pipeline, optics, scan),
    ]


def _overlap(pipeline: PipelineConfig, optics: Optics, scan: Scan | None) -> Iterator[str]:
    """Phases need probes that overlap."""
    step = None if scan is None else scan.step_size_angstrom
    beam = beam_of(optics)
    if step is None or beam is None:
        return
    radius = max(beam.airy_radius, beam.blur_radius)
    if radius < step <= 2 * radius and (phases := _phases(pipeline)):
        yield (
            f"scan.step_size_angstrom = {step:g} is more than the probe's radius of "
            f"{radius:.2g} Å: the images of {', '.join(phases)} need probes that overlap"
        )


def _lens(optics: Optics, scan: Scan | None) -> Iterator[str]:
    """Aberrations that spread the beam, by geometrical optics, over more than is scanned."""
    step = None if scan is None else scan.step_size_angstrom
    alpha = 1e-3 * (optics.convergence_semi_angle_mrad or 0.0)
    if scan is None or step is None:
        return
    field = min(scan.shape) * step
    spread = {
        "defocus_nm": 10 * alpha,
        "cs_mm": 1e7 * alpha**3,
        "astigmatism_nm": 10 * alpha,
        "coma_nm": 30 * alpha**2,
        "threefold_nm": 10 * alpha**2,
    }
    for key, angstrom in spread.items():
        value = getattr(optics, key)
        if (wide := 2 * abs(value) * angstrom) > field:
            yield (
                f"optics.{key} = {value:g} makes the beam {wide / 10:,.3g} nm wide, wider than the "
                f"scan of {field / 10:,.3g} nm"
            )


def _lacking(pipeline: PipelineConfig, optics: Optics, scan: Scan | None) -> Iterator[str]:
    """What a phase cannot be made without."""
    keys = ("energy_ev", "convergence_semi_angle_mrad", "pixel_size_mrad")
    lacking = [f"optics.{key}" for key in keys if getattr(optics, key) is None]
    if scan is not None and scan.step_size_angstrom is None:
        lacking.append("scan.step_size_angstrom")
    if lacking and (phases := _phases(pipeline)):
        yield f"{', '.join(phases)} will make no image: {', '.join(lacking)} is not set"


def _phases(pipeline: PipelineConfig) -> list[str]:
    return [
        engine.name
        for engine in pipeline.engines
        if isinstance(engine.settings, SlowEngineSettings)
    ]
