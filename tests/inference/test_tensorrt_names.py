"""The backend uses only names that TensorRT 10 and 11 and PyCUDA have; so do the stand-ins.

`names/` was made from the real libraries: the bindings' wheels loaded beside empty libraries in
place of NVIDIA's (docs/adr/0014-tensorrt.md), PyCUDA built from source. A line is a module's name
and, if it is a class, its members; parameters stand in brackets, `=` behind those with a default.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import stemd.inference.tensorrt
from tests.inference import fake_cuda, fake_tensorrt
from tests.inference.fake_cuda import World

Names = dict[str, dict[str, list[str]]]
"""Class or function: member: its ways to be called, as `a,b=`; a function's are under ""."""

FOLDER = Path(__file__).parent / "names"
TENSORRT = sorted(FOLDER.glob("tensorrt-*.txt"))
PYCUDA = FOLDER / "pycuda-2026.1.txt"
SOURCES = sorted(Path(stemd.inference.tensorrt.__file__).parent.glob("*.py"))

# what the backend calls its objects, and what they are
OBJECTS = {
    "builder": "Builder", "graph": "INetworkDefinition", "parser": "OnnxParser",
    "error": "ParserError", "config": "IBuilderConfig", "profile": "IOptimizationProfile",
    "cache": "ITimingCache", "runtime": "Runtime", "engine": "ICudaEngine", "source": "ITensor",
    "plan": "IHostMemory", "_context": "IExecutionContext",
}  # fmt: skip
CUDA_OBJECTS = {
    "device": "Device", "_cuda_context": "Context", "_stream": "Stream",
}  # fmt: skip


def read(path: Path) -> Names:
    found: Names = {}
    for line in path.read_text().splitlines()[1:]:
        first, *members = line.split(" ")
        name, calls = split(first)
        found[name] = {"": calls} | dict(split(member) for member in members)
    return found


def split(text: str) -> tuple[str, list[str]]:
    name, _, calls = text.partition("(")
    return name, calls.rstrip(")").split(")(") if calls else []


def uses(tree: ast.AST) -> Iterator[tuple[str, str, str, int]]:
    """The last two names before a dot and the one after it, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, last = ast.unparse(node.value).rpartition(".")
            yield first.rpartition(".")[2], last, node.attr, node.lineno


def unknown(source: str, tensorrt: Names, cuda: Names) -> list[str]:
    """Uses of names that the libraries lack."""
    wrong = []
    for first, last, attribute, line in uses(ast.parse(source)):
        for roots, names, objects in (
            (("trt",), tensorrt | {"__version__": {}}, OBJECTS),
            (("cuda", "_cuda"), cuda, CUDA_OBJECTS),
        ):
            missing = (
                (last in roots and attribute not in names)
                or (first in roots and attribute not in names.get(last, {}))
                or (last in objects and attribute not in names[objects[last]])
            )
            if missing:
                wrong.append(f"line {line}: {last}.{attribute}")
    return wrong


@pytest.mark.parametrize("version", TENSORRT, ids=[path.stem for path in TENSORRT])
@pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])
def test_the_backend_uses_only_names_that_exist(source: Path, version: Path) -> None:
    assert unknown(source.read_text(), read(version), read(PYCUDA)) == []


@pytest.mark.parametrize(
    ("line", "lacking"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", {"11"}),
        ("flag = trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", {"11"}),
        ("engine.device_memory_size", {"11"}),
        ("config.build_route", {"10"}),
        ("self._context.execute_async_v2(bindings, handle)", {"10", "11"}),
        ("trt.Quantizer()", {"10", "11"}),
        ("self._cuda.memcpy_h2d(a, b)", {"10", "11"}),
        ("gpu.cuda_context.pull()", set()),
        ("self._cuda_context.pull()", {"10", "11"}),
        ("self._stream.wait()", {"10", "11"}),
        ("self.cuda.Context.reset()", {"10", "11"}),
    ],
)
def test_a_name_that_a_version_lacks_is_found(line: str, lacking: set[str]) -> None:
    cuda = read(PYCUDA)
    found = {
        path.stem.removeprefix("tensorrt-").split(".")[0]
        for path in TENSORRT
        if unknown(line, read(path), cuda)
    }
    assert found == lacking


def test_both_versions_are_there() -> None:
    assert [path.read_text().split("\n")[0] for path in TENSORRT] == [
        "tensorrt 10.16.1.11",
        "tensorrt 11.4.0.106",
    ]


def test_objects_of_the_libraries_are_called_by_the_names_that_are_checked() -> None:
    """What a call of the libraries gives is kept under a name of `OBJECTS`, or is a plain value."""
    plain = {"typed", "names", "shapes", "given", "made", "source", "profile", "version"}
    made_by = {"create_", "deserialize_", "Builder", "Runtime", "OnnxParser", "get_error"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            function = node.value.func
            name = function.attr if isinstance(function, ast.Attribute) else ""
            if any(name.startswith(part) for part in made_by):
                (target,) = node.targets
                called = target.attr if isinstance(target, ast.Attribute) else target.id  # type: ignore[attr-defined]
                assert called in OBJECTS.keys() | plain, f"{path.name}, line {node.lineno}"


def members(kind: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(kind).items():
        if not name.startswith("_"):
            yield name, value


def parameters(function: Any) -> str:
    found = inspect.signature(function).parameters.values()
    return ",".join(
        each.name + ("=" if each.default is not each.empty else "")
        for each in found
        if each.name != "self"
    )


def agrees(function: Any, call: str) -> bool:
    """Whether it takes the first parameters of the real one, and that one's others may be left."""
    own = list(filter(None, parameters(function).split(",")))
    real = [each for each in call.split(",") if each not in ("", "self")]
    return own == real[: len(own)] and all(each.endswith("=") for each in real[len(own) :])


def check_stand_in(module: ModuleType, names: Names) -> None:
    for name, thing in members(module):
        assert name in names, name
        if inspect.isfunction(thing):
            assert any(agrees(thing, call) for call in names[name][""]), name
            continue
        for member, value in members(thing):
            if isinstance(value, staticmethod):
                value = value.__func__
            assert member in names[name], f"{name}.{member}"
            known = names[name][member]
            if inspect.isfunction(value) and known:
                assert any(agrees(value, call) for call in known), f"{name}.{member}"


@pytest.mark.parametrize("path", TENSORRT, ids=[path.stem for path in TENSORRT])
def test_the_stand_ins_have_nothing_that_the_real_ones_lack(path: Path) -> None:
    world = World(version=path.read_text().split("\n")[0].removeprefix("tensorrt "))
    cuda = fake_cuda.module(world)
    names = read(PYCUDA)
    names["mem_alloc"][""] = ["size"]  # its own has no name
    check_stand_in(cuda, names)
    check_stand_in(fake_tensorrt.module(world, cuda), read(path))
