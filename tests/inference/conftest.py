"""A machine with GPUs and TensorRT, both of them stand-ins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from stemd.inference import activity
from stemd.inference.tensorrt import gpu
from tests.inference import fake_cuda, fake_tensorrt
from tests.inference.fake_cuda import World


def install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`import tensorrt` and `import pycuda.driver` give the stand-ins from now on."""
    cuda = fake_cuda.module(world)
    package = ModuleType("pycuda")
    package.driver = cuda  # type: ignore[attr-defined]
    modules = {
        "pycuda": package,
        "pycuda.driver": cuda,
        "tensorrt": fake_tensorrt.module(world, cuda),
    }
    for name, thing in modules.items():
        thing.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, thing)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """A machine with one GPU; nothing wrong may have been done on it by the end of the test."""
    found = World()
    monkeypatch.setattr(gpu, "_opened", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install(found, monkeypatch)
    yield found
    assert found.complaints == []
    assert activity.current() == []


@pytest.fixture(params=["11.4.0.106", "10.16.1.11"], ids=["TensorRT 11", "TensorRT 10"])
def world(machine: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same with each version of TensorRT."""
    machine.version = request.param
    install(machine, monkeypatch)
    return machine
