"""Train AIRPI's network, or go on training it from its checkpoint.

    python -m training.airpi.shards --shards 60 --folder state/airpi
    python -m training.airpi.train --folder state/airpi --state state/airpi.pt

The run can be ended at any moment and started again with the same command. Shards that are added
meanwhile are taken in. `--finish N` with `--from` lets the learning rate fall to zero within N
steps of a checkpoint, or of a shipped network (`--from stemd/models/airpi.onnx`).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from training import checkpoints
from training.airpi.examples import Examples, draw, examples, joined
from training.airpi.network import ExitWaveNetwork, Layout
from training.airpi.shipped import from_onnx

log = structlog.get_logger()

WARM_UP_STEPS = 300
AVERAGING = 0.999
FLOOR = 0.0005
"""Added to the mean square of D, by which errors are divided: nothing is exact to 2 %."""
VALIDATION_DOSES = (5.0, 100.0, 1e3, 1e9)
LOOK_AGAIN_S = 120.0
ALIKE = 36.0
"""Found by stitching: with 9, images at 100 electrons a pattern were noisier than need be."""
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides how a run goes, but for the shards that are there."""

    layout: Layout = field(default_factory=Layout)
    seed: int = 1
    batch: int = 256
    learning_rate: float = 1e-3
    finish_at: int | None = None
    finish_steps: int = 0

    def fraction(self, step: int) -> float:
        """Of the learning rate, for this step: a rise, a plateau, where asked a fall to zero."""
        fraction = min(1.0, (step + 1) / WARM_UP_STEPS)
        if self.finish_at is not None:
            left = max(0.0, (self.finish_at - step) / max(1, self.finish_steps))
            fraction *= 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
        return fraction


def random_electrons(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Electrons a pattern: mostly what cameras see, 3 to 1e6, now and then up to 3e9."""
    low = np.exp(rng.uniform(math.log(3.0), math.log(1e6), count))
    high = np.exp(rng.uniform(math.log(1e6), math.log(3e9), count))
    return np.where(rng.random(count) < 0.15, high, low)


def error(first: Tensor, second: Tensor, change: Tensor, weight: Tensor, overlap: Tensor) -> Tensor:
    """What is wrong with a stitched object of such patches, relative to D, each example's.

    `first` and `second` (n, 2, w, w) are what the network makes of the same patterns with
    electrons of their own. An object is the mean of many patches: what they have in common (the
    product of the two errors) stays, what is by chance (half the square of their difference)
    becomes less with the number of patches that lie over each other. Neighbours have most of
    their patterns in common, so `ALIKE` of these count as one.
    """
    heavy = weight[:, None]
    a, b = first - change, second - change
    common = (heavy * a * b).sum(dim=(1, 2, 3))
    chance = 0.5 * (heavy * (a - b).square()).sum(dim=(1, 2, 3))
    power = (heavy * change.square()).sum(dim=(1, 2, 3))
    return (common + chance / (1.0 + overlap / ALIKE)) / (power + FLOOR)


class Run:
    """Network, its averaged twin, optimiser, and the number of steps done."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.network = ExitWaveNetwork(recipe.layout)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            recipe.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=0.02,
            fused=True,
        )
        self.step = 0

    def learn(self, batch: Batch) -> float:
        """One step with a batch of `draw`. Returns the loss."""
        features, change, weight, overlap = batch
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * self.recipe.fraction(self.step)
        with torch.autocast("cpu", torch.bfloat16):
            both = self.network(features.flatten(0, 1)).float()
        first, second = both.chunk(2)
        loss = error(first, second, change, weight, overlap).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        checkpoints.follow(self.averaged, self.network, self.step, AVERAGING)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the checkpoint; a reader sees the old or the new one, never a part."""
        checkpoints.write(
            {
                "layout": self.recipe.layout.as_dict(),
                "step": self.step,
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
            path,
        )

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same layout, or from the network of a shipped file."""
        if path.suffix == ".onnx":
            network, self.step = from_onnx(path)
            for each in (self.network, self.averaged):
                each.load_state_dict(network.state_dict())
            return
        state = checkpoints.read(path)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def step_of(path: Path) -> int:
    """The step at which a checkpoint, or a shipped network, was written."""
    return from_onnx(path)[1] if path.suffix == ".onnx" else checkpoints.step_of(path)


def load_averaged(path: Path) -> tuple[ExitWaveNetwork, int]:
    """The averaged network of a checkpoint, for scoring and export, and its step."""
    state = checkpoints.read(path)
    network = ExitWaveNetwork(Layout(**state["layout"]))
    network.load_state_dict(state["averaged"])
    return network.eval(), int(state["step"])


class Source:
    """Batches made ahead of time by one thread, from all shards that are there."""

    def __init__(self, folder: Path, recipe: Recipe, step: int) -> None:
        self._folder, self._recipe = folder, recipe
        self._rng = np.random.default_rng([recipe.seed, step])
        self._parts: dict[Path, Examples] = {}
        self._looked = -math.inf
        self._stop = threading.Event()
        self._ready: queue.Queue[Batch | Exception] = queue.Queue(maxsize=3)
        self.held = self._held_out()
        threading.Thread(target=self._produce, name="batches", daemon=True).start()

    def _shards(self) -> list[Path]:
        return sorted(self._folder.glob("s*.npz"))

    def _held_out(self) -> Examples:
        """The last third of the first shard, never trained on."""
        shards = self._shards()
        if not shards:
            raise SystemExit(f"{self._folder}: no shards; make some with training.airpi.shards")
        first = examples(shards[0])
        cut = 2 * len(first) // 3
        return _part(first, slice(cut, None))

    def _look(self) -> Examples:
        """All examples there are now."""
        for path in self._shards():
            if path not in self._parts:
                found = examples(path)
                if not self._parts:
                    found = _part(found, slice(0, 2 * len(found) // 3))
                self._parts[path] = found
        self._looked = time.monotonic()
        # joined anew each time: the parts are dropped from memory by being views of it
        return joined(list(self._parts.values()))

    def _produce(self) -> None:
        try:
            data = self._look()
            order = np.empty(0, np.int64)
            while not self._stop.is_set():
                if order.size < self._recipe.batch:
                    if time.monotonic() - self._looked > LOOK_AGAIN_S and len(self._shards()) > len(
                        self._parts
                    ):
                        data = self._look()
                        log.info("shards", shards=len(self._parts), examples=len(data))
                    order = self._rng.permutation(len(data))
                chosen, order = order[: self._recipe.batch], order[self._recipe.batch :]
                electrons = random_electrons(chosen.size, self._rng)
                batch = tensors(draw(data, chosen, electrons, self._rng))
                while not self._stop.is_set():
                    with contextlib.suppress(queue.Full):
                        self._ready.put(batch, timeout=0.5)
                        break
        except Exception as error:  # raised again where the batch was wanted
            self._ready.put(error)

    def __iter__(self) -> Iterator[Batch]:
        """Batches without end."""
        while True:
            item = self._ready.get()
            if isinstance(item, Exception):
                raise RuntimeError("a batch could not be made") from item
            yield item

    def close(self) -> None:
        """End the thread."""
        self._stop.set()


def _part(data: Examples, kept: slice) -> Examples:
    return Examples(
        data.root[kept], data.change[kept], data.weight[kept], data.optics[kept], data.overlap[kept]
    )


def tensors(batch: tuple[NDArray[np.float32], ...]) -> Batch:
    """Arrays of `draw` as tensors."""
    a, b, c, d = (torch.from_numpy(array) for array in batch)
    return a, b, c, d


def validate(network: ExitWaveNetwork, held: Examples) -> dict[str, float]:
    """Mean of `error` over unseen examples, for some doses in electrons a pattern."""
    result = {}
    for electrons in VALIDATION_DOSES:
        rng = np.random.default_rng(3)
        chosen = np.arange(len(held))
        dose = np.full(len(held), electrons)
        features, change, weight, overlap = tensors(draw(held, chosen, dose, rng, augment=False))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            first, second = network(features.flatten(0, 1)).float().chunk(2)
        found = error(first, second, change, weight, overlap)
        power = (weight[:, None] * change.square()).sum(dim=(1, 2, 3))
        result[f"error_{electrons:g}"] = round(float(found[power > FLOOR].mean()), 4)
    return result


def train(run: Run, folder: Path, state: Path, steps: int, every_s: float) -> None:
    """Train until `run.step` reaches `steps`, with a checkpoint and a score now and then."""
    source = Source(folder, run.recipe, run.step)
    saved = time.monotonic()
    losses: list[float] = []
    try:
        for batch in source:
            loss = run.learn(batch)
            if not math.isfinite(loss):
                raise RuntimeError(f"the loss is not finite at step {run.step}")
            losses.append(loss)
            now = time.monotonic()
            if now - saved > every_s or run.step >= steps:
                run.save(state)
                log.info("checkpoint", step=run.step, loss=round(float(np.mean(losses)), 4),
                         examples_per_s=round(len(losses) * run.recipe.batch / (now - saved)),
                         **validate(run.averaged, source.held))  # fmt: skip
                saved = time.monotonic()
                losses.clear()
            if run.step >= steps:
                break
    finally:
        source.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path("state/airpi"), help="of the shards")
    parser.add_argument("--state", type=Path, default=Path("state/airpi.pt"))
    parser.add_argument("--from", dest="origin", type=Path, help="start from this checkpoint")
    parser.add_argument("--steps", type=int, default=1_000_000, help="train up to this step")
    parser.add_argument("--finish", type=int, default=0, help="fall to zero within N steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--checkpoint-s", type=float, default=120.0)
    for name, value in Layout().as_dict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    layout = Layout(**{name: getattr(options, name) for name in Layout().as_dict()})
    origin = options.state if options.state.exists() else options.origin
    begun = 0
    if options.finish:
        if options.origin is None:
            parser.error("--finish needs --from, the checkpoint to finish")
        begun = step_of(options.origin)
    recipe = Recipe(
        layout=layout,
        seed=options.seed,
        batch=options.batch,
        learning_rate=options.learning_rate,
        finish_at=begun + options.finish if options.finish else None,
        finish_steps=options.finish,
    )
    run = Run(recipe)
    if origin is not None:
        run.restore(origin)
        log.info("resumed", checkpoint=str(origin), step=run.step)
    steps = recipe.finish_at if recipe.finish_at is not None else options.steps
    train(run, options.folder, options.state, steps, options.checkpoint_s)


if __name__ == "__main__":
    main()
