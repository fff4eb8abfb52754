"""Importing the published networks: a package of our own making stands for the real one."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stemd.cli.main import main
from stemd.errors import FormatError, ModelError, StemdError
from stemd.inference import choice
from stemd.inference.model_file import model_of
from stemd.inference.r_em import package
from stemd.inference.r_em.checkpoint import read_float, read_index

Image = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a sorted table; keys share prefixes, with a restart every 16 entries."""
    out, restarts, previous = bytearray(), [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % 16 == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        previous = key
    out += struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))
    return bytes(out)


def bundle(variables: dict[str, Image]) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint, as TensorFlow lays them out; two data blocks."""
    data, entries = bytearray(), [(b"", field(1, 1))]
    for key in sorted(variables):
        value = variables[key]
        shape = b"".join(field(2, field(1, n)) for n in value.shape)
        raw = value.astype("<f4").tobytes()
        place = field(1, 1) + field(2, shape) + field(4, len(data)) + field(5, len(raw))
        place += varint(6 << 3 | 5) + b"\1\2\3\4"
        entries.append((key.encode(), place))
        data += raw
    half = len(entries) // 2
    table, handles = bytearray(), []
    for part in (entries[:half], entries[half:]):
        body = block(part)
        handles.append((part[-1][0], varint(len(table)) + varint(len(body))))
        table += body + b"\0" + b"crc."
    places = []
    for body in (block([]), block(handles)):
        places.append(varint(len(table)) + varint(len(body)))
        table += body + b"\0" + b"crc."
    footer = b"".join(places).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    return bytes(table + footer), bytes(data)


def kernels() -> dict[str, Image]:
    """Weights of the published layout, random and small."""
    rng = np.random.default_rng(11)
    shapes: list[tuple[int, ...]] = [(3, 3, 1, 64), (4, 4, 64, 64)]
    for _ in range(4):
        for _ in range(4):
            shapes += [(3, 3, 64 + 32 * i, 32) for i in range(8)] + [(1, 1, 320, 64)]
        shapes.append((1, 1, 256, 64))
    shapes += [(1, 1, 256, 64), (4, 4, 64, 64), (3, 3, 64, 1)]
    assert len(shapes) == package.LAYERS
    variables: dict[str, Image] = {}
    for index, shape in enumerate(shapes):
        key = f"layer_with_weights-{index}/{{}}/.ATTRIBUTES/VARIABLE_VALUE"
        scale = 0.5 / np.sqrt(np.prod(shape[:3]))
        # of the transposed convolution the last side is what goes in
        out = shape[2] if index == package.LAYERS - 2 else shape[3]
        variables[key.format("kernel")] = rng.normal(0, scale, shape).astype(np.float32)
        variables[key.format("bias")] = rng.normal(0, 0.1, (out,)).astype(np.float32)
    return variables


def member(network: str, name: str) -> str:
    return f"tk_r_em-1.0.4/tk_r_em/models/sfr_{network}/variables/{name}"


def in_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def in_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path / "package.tar.gz", "w:gz", compresslevel=1) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path / "package.tar.gz"


def in_wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path / "package.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path / "package.whl"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    index, data = bundle(kernels())
    return {
        member("hrstem", "variables.index"): index,
        member("hrstem", "variables.data-00000-of-00001"): data,
    }


def test_a_checkpoint_is_read_back_variable_by_variable() -> None:
    variables = kernels()
    index, data = bundle(variables)
    places = read_index(index)
    assert set(places) == set(variables)
    for key, value in variables.items():
        np.testing.assert_array_equal(read_float(data, places[key]), value)


def test_a_damaged_checkpoint_is_one_clear_error() -> None:
    index, data = bundle({"a": np.ones((2, 3), np.float32), "b": np.zeros(5, np.float32)})
    for cut in (0, 20, len(index) - 1):
        with pytest.raises(FormatError, match="index"):
            read_index(index[:cut])
    with pytest.raises(FormatError, match="cut off"):
        read_float(data[:-1], read_index(index)["b"])


def plain(variables: dict[str, Image], image: Image) -> Image:
    """The network of the papers in NumPy, float64, for one normalised image (ny, nx)."""
    layers = iter(range(package.LAYERS))

    def weights() -> tuple[Image, Image]:
        key = f"layer_with_weights-{next(layers)}/{{}}/.ATTRIBUTES/VARIABLE_VALUE"
        return variables[key.format("kernel")], variables[key.format("bias")]

    def conv(x: Image, stride: int = 1) -> Image:
        kernel, bias = weights()
        size = kernel.shape[0]
        before = (size - stride) // 2
        pad = ((before, size - stride - before),) * 2
        padded = np.pad(x, (*pad, (0, 0)))
        ny, nx = x.shape[0] // stride, x.shape[1] // stride
        out = np.zeros((ny, nx, kernel.shape[3])) + bias
        for dy in range(size):
            for dx in range(size):
                part = padded[dy : dy + ny * stride : stride, dx : dx + nx * stride : stride]
                out += part @ kernel[dy, dx].astype(np.float64)
        return out  # type: ignore[return-value]

    def grown(x: Image) -> Image:
        kernel, bias = weights()
        ny, nx = x.shape[:2]
        out = np.zeros((2 * ny + 2, 2 * nx + 2, kernel.shape[2]))
        for dy in range(4):
            for dx in range(4):
                out[dy : dy + 2 * ny : 2, dx : dx + 2 * nx : 2] += x @ kernel[dy, dx].T
        return out[1:-1, 1:-1] + bias  # type: ignore[no-any-return]

    x = body = conv(conv(image[:, :, None]), 2)
    groups = []
    for _ in range(4):
        entered, blocks = x, []
        for _ in range(4):
            known = [x]
            for _ in range(8):
                known.append(np.maximum(conv(np.concatenate(known, 2)), 0.0))
            x = conv(np.concatenate(known, 2)) + x
            blocks.append(x)
        x = conv(np.concatenate(blocks, 2)) + entered
        groups.append(x)
    x = conv(np.concatenate(groups, 2)) + body
    result: Image = conv(grown(x))[:, :, 0] + image
    return result


def test_the_graph_is_the_network_of_the_papers() -> None:
    variables = kernels()
    index, data = bundle(variables)
    stored = {"variables.index": index, "variables.data-00000-of-00001": data}
    model = package.convert(lambda ending: stored[ending.rsplit("/", 1)[-1]], "hrstem")
    network = choice.load(model_of(model.SerializeToString(), "r-em"), "onnxruntime")
    image = np.random.default_rng(1).standard_normal((12, 18)).astype(np.float32)
    found = network.run(image[None, None])[0, 0]
    np.testing.assert_allclose(found, plain(variables, image), atol=2e-5)


def test_the_stored_reference_is_one_image_a_network_and_not_trivial() -> None:
    image = package.reference_input()
    seen = []
    for name in package.NETWORKS:
        output = package.reference_output(name)
        assert output.shape == image.shape == package.REFERENCE_SHAPE
        assert abs(float(output.mean() - image.mean())) < 0.02 * float(image.mean())
        assert float(np.abs(output - image).max()) > 0.1 * float(image.std())
        seen.append(output.tobytes())
    assert len(set(seen)) == len(package.NETWORKS)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [in_folder, in_tar, in_wheel])
def test_weights_that_are_not_the_published_ones_are_not_imported(
    tmp_path: Path,
    files: dict[str, bytes],
    packed: Callable[[Path, dict[str, bytes]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = packed(tmp_path, files)
    folder = tmp_path / "models"
    arguments = ["models", "import", "r-em", str(source), "--only", "hrstem", "--to", str(folder)]
    assert main(arguments) == 1
    assert "differs from the original" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.slow
def test_weights_that_give_the_reference_are_imported_and_found(
    tmp_path: Path,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def output(name: str) -> Image:
        image = package.reference_input()
        mean, deviation = float(image.mean()), float(image.std())
        normalised: Image = (image - mean) / np.float32(deviation)
        return plain(kernels(), normalised) * np.float32(deviation) + np.float32(mean)

    monkeypatch.setattr(package, "reference_output", output)
    monkeypatch.setenv("STEMD_MODELS", str(tmp_path / "models"))
    source = in_wheel(tmp_path, files)
    assert main(["models", "import", "r-em", str(source), "--only", "hrstem"]) == 0
    assert "GPL" in capsys.readouterr().out
    assert main(["models", "check", "r-em-hrstem", "--size", "32", "--backend", "openvino"]) == 0
    assert "float32" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    assert "r-em-hrstem" in capsys.readouterr().out


def test_a_package_without_the_network_or_of_another_kind_is_named(tmp_path: Path) -> None:
    fetch = package.open_package(in_folder(tmp_path / "empty", {"readme": b""}))
    with pytest.raises(FormatError, match="sfr_lrstem"):
        package.convert(fetch, "lrstem")
    text = tmp_path / "text.txt"
    text.write_text("no package")
    for path in (text, tmp_path / "missing.tar.gz"):
        with pytest.raises(FormatError, match=path.name):
            package.open_package(path)


def test_a_checkpoint_of_another_network_is_refused() -> None:
    variables = kernels()
    for change, says in (("-2/", "was expected"), ("-152/", "no layer 152")):
        wrong = {
            key: value[..., :-1] if "-2/kernel" in key else value
            for key, value in variables.items()
            if change != "-152/" or change not in key
        }
        if change == "-152/":
            wrong = {key: value for key, value in variables.items() if change not in key}
        index, data = bundle(wrong)
        stored = {"variables.index": index, "variables.data-00000-of-00001": data}
        with pytest.raises(FormatError, match=says):
            package.convert(lambda ending, s=stored: s[ending.rsplit("/", 1)[-1]], "hrstem")  # type: ignore[misc]


def test_a_wrong_output_is_never_verified() -> None:
    with pytest.raises(ModelError, match="differs"):
        package.verify("hrstem", lambda batch: batch)
    with pytest.raises(ModelError, match="differs"):
        package.verify("hrstem", lambda batch: batch * np.float32(np.nan))


def test_names_that_do_not_exist_end_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "check", "restorashun"]) == 1
    assert "not installed" in capsys.readouterr().err
    assert main(["models", "check", "r-em-hrstem2"]) == 1
    assert "stemd models import r-em" in capsys.readouterr().err
    assert issubclass(ModelError, StemdError)
