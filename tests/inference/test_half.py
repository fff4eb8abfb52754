"""Precision put into the graph: what becomes float16, what does not, and how much it costs."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stemd.engines.restoration.estimate.channels import channels
from stemd.inference.base import Options
from stemd.inference.catalogue import find
from stemd.inference.half import Precision, converted
from stemd.inference.model_file import model_of, read_model
from stemd.inference.onnx_graph import bfloat16
from stemd.inference.openvino import imported
from stemd.inference.precision import chosen, difference
from stemd.inference.r_em import package
from tests.inference import models
from tests.inference.test_backends import noise
from tests.inference.test_r_em import bundle, kernels

Array = np.ndarray[Any, Any]

TOLERANCE = {"restoration": 1e-3, "airpi": 1e-3, "r-em": 1e-3}
"""Root-mean-square difference of the float16 graph from float32, in deviations of the output."""
ROUNDING = {"restoration": 2e-3, "airpi": 3e-3, "r-em": 2e-3}
"""The same where every layer's result is rounded to float16, as on a GPU at worst."""
NETWORKS = sorted(TOLERANCE)
EXACT = {"LayerNormalization", "Softmax", "Exp", "Softsign", "Div", "ReduceMean", "Sigmoid"}


def on_onnxruntime(data: bytes, batch: Array) -> Array:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(output)


def on_openvino(data: bytes, batch: Array) -> Array:
    core = imported().Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    compiled = core.compile_model(core.read_model(BytesIO(data)), "CPU", settings)
    return np.array(compiled([batch])[0])


def network(name: str) -> bytes:
    """A shipped network, or one as `stemd models import` makes it, of random weights."""
    if name != "r-em":
        return read_model(find(name)).data
    index, data = bundle(kernels())
    stored = {"variables.index": index, "variables.data-00000-of-00001": data}
    model = package.convert(lambda ending: stored[ending.rsplit("/", 1)[-1]], "hrstem")
    return bytes(model.SerializeToString())


def reference_inputs(name: str) -> list[Array]:
    """What the network is given in use: quiet and loud."""
    if name == "airpi":
        return [noise((16, 6747), 1) * np.float32(scale) for scale in (0.3, 1.0, 4.0)]
    y, x = np.mgrid[:96, :96]
    found = []
    for seed, strength in enumerate((0.1, 0.5, 2.0)):
        image = np.cos(0.7 * y + 0.2 * x) * np.cos(0.8 * x - 0.1 * y)
        image = image + strength * noise((96, 96), seed)
        image = ((image - image.mean()) / image.std()).astype(np.float32)
        found.append(channels(image)[None] if name == "restoration" else image[None, None])
    return found


def kinds(data: bytes) -> dict[str, int]:
    """Kind of numbers of every tensor, by ONNX itself."""
    model = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(data), check_type=True, strict_mode=True
    )
    graph = model.graph
    found = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input]}
    found |= {v.name: v.type.tensor_type.elem_type for v in graph.output}
    return found | {t.name: t.data_type for t in graph.initializer}


@pytest.mark.parametrize("run", [on_onnxruntime, on_openvino])
@pytest.mark.parametrize("name", NETWORKS)
def test_float16_graphs_are_within_tolerance_on_two_runtimes(
    name: str, run: Callable[[bytes, Array], Array]
) -> None:
    data = network(name)
    half = converted(data, "float16")
    for batch in reference_inputs(name):
        expected = on_onnxruntime(data, batch)
        found = run(half, batch)
        assert found.dtype == np.float32
        assert difference(found, expected) <= TOLERANCE[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_after_every_layer_is_within_tolerance(name: str) -> None:
    data = network(name)
    rehearsed = converted(data, "float16", rehearsed=True)
    for batch in reference_inputs(name):
        found = difference(on_onnxruntime(rehearsed, batch), on_onnxruntime(data, batch))
        assert 1e-5 < found <= ROUNDING[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_float16_and_norms_exponentials_inputs_and_outputs_float32(name: str) -> None:
    half = converted(network(name), "float16")
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    known, graph = kinds(half), onnx.load_from_string(half).graph
    heavy = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "MatMul")]
    assert len(heavy) > 15
    for node in heavy:
        assert {known[each] for each in [*node.input, *node.output]} == {TensorProto.FLOAT16}
    for node in graph.node:
        if node.op_type in EXACT:
            assert {known[each] for each in [*node.input, *node.output]} == {TensorProto.FLOAT}
    for value in [*graph.input, *graph.output]:
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_constants_of_their_layer_and_metadata_stay(name: str) -> None:
    data = network(name)
    for precision in ("float32", "float16"):
        made = converted(data, precision)  # type: ignore[arg-type]
        graph = onnx.load_from_string(made).graph
        stored = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type in ("Conv", "ConvTranspose"):
                assert set(node.input[1:]) <= stored
            assert node.op_type != "Cast" or not set(node.input) & stored
        assert model_of(made, name).metadata == model_of(data, name).metadata
    batch = reference_inputs(name)[0]
    exact = converted(data, "float32")
    assert difference(on_onnxruntime(exact, batch), on_onnxruntime(data, batch)) < 1e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_rounds_more(name: str) -> None:
    data, batch = network(name), reference_inputs(name)[1]
    expected = on_onnxruntime(data, batch)
    short, half = (
        difference(on_onnxruntime(converted(data, precision, rehearsed=True), batch), expected)
        for precision in ("bfloat16", "float16")
    )
    assert 3 * half < short < 3e-2
    real = on_openvino(converted(data, "bfloat16"), batch)
    assert difference(real, expected) < 3e-2


def two_layers(first: float, second: float) -> bytes:
    """A convolution by `first`, a relu, one by `second`."""
    one, w1 = models.conv("w1", "image", "a", np.full((1, 1, 3, 3), first))
    two, w2 = models.conv("w2", "b", "restored", np.full((1, 1, 3, 3), second))
    return models.build([one, helper.make_node("Relu", ["a"], ["b"]), two], [w1, w2])


def cancelling() -> bytes:
    """The small difference of two large results."""
    one, w1 = models.conv("w1", "image", "a", np.full((1, 1, 1, 1), 1000.0))
    two, w2 = models.conv("w2", "image", "b", np.full((1, 1, 1, 1), 1000.3))
    return models.build([one, two, helper.make_node("Sub", ["a", "b"], ["restored"])], [w1, w2])


@pytest.mark.parametrize(
    ("data", "precision"),
    [
        (two_layers(0.1, 0.1), "float16"),
        (two_layers(1e6, 1e-6), "bfloat16"),  # a weight beyond float16
        (two_layers(3e4, 1e-4), "bfloat16"),  # a result beyond it
        (two_layers(1.0, 1e-9), "bfloat16"),  # a weight that float16 does not tell from 0
        (cancelling(), "float32"),
    ],
)
def test_the_least_precision_that_is_enough_is_chosen(data: bytes, precision: str) -> None:
    found = chosen(models.model(data), Options())
    assert found.precision == precision
    assert found.data == converted(data, precision)  # type: ignore[arg-type]
    assert chosen(models.model(data), Options(exact=True)).precision == "float32"


@pytest.mark.parametrize("name", NETWORKS)
def test_float16_is_chosen_for_the_networks_that_there_are(name: str) -> None:
    found = chosen(model_of(network(name), name), Options())
    assert found.precision == "float16"
    assert 1e-5 < found.difference <= ROUNDING[name]


# Other people's graphs


def check(data: bytes, precision: Precision = "float16", tolerance: float = 2e-3) -> Any:
    """Converts, and compares on ONNX Runtime; the converted graph."""
    batch = noise((1, 1, 16, 16))
    half = converted(data, precision)
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    found, expected = on_onnxruntime(half, batch), on_onnxruntime(data, batch)
    assert difference(found, expected) <= tolerance
    return onnx.load_from_string(half).graph


def filtered(*after: Any, weights: tuple[Any, ...] = (), out: str = "restored") -> bytes:
    """A convolution of the image to `a`, and what comes after it."""
    node, weight = models.conv("w", "image", "a", np.full((1, 1, 3, 3), 0.2))
    return models.build([node, *after], [weight, *weights])


def test_numbers_may_be_stored_in_every_way_that_onnx_has() -> None:
    values = np.linspace(-0.5, 0.5, 9, dtype=np.float32)
    shape = (1, 1, 3, 3)
    listed = helper.make_tensor("w", TensorProto.FLOAT, shape, values.tolist())
    short = helper.make_tensor("w", TensorProto.FLOAT16, shape, values.astype(np.float16).tolist())
    node = helper.make_node("Conv", ["image", "v"], ["restored"], pads=[1] * 4)
    constant = helper.make_node("Constant", [], ["v"], value=listed)
    from_short = helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT)
    for data in (models.build([constant, node]), models.build([from_short, node], [short])):
        graph = check(data)
        assert [each.op_type for each in graph.node] == ["Cast", "Conv", "Cast"]
        (weight,) = graph.initializer
        assert weight.data_type == TensorProto.FLOAT16
        np.testing.assert_allclose(numpy_helper.to_array(weight).reshape(-1), values, atol=3e-4)


def test_scales_of_a_resize_and_shapes_stay_what_they_are() -> None:
    scales = numpy_helper.from_array(np.ones(4, np.float32), "scales")
    size = numpy_helper.from_array(np.array([0, 0, 0, 0], np.int64), "size")
    graph = check(
        filtered(
            helper.make_node("Resize", ["a", "", "scales"], ["b"], mode="nearest"),
            helper.make_node("Reshape", ["b", "size"], ["c"]),
            helper.make_node("Shape", ["c"], ["shape"]),
            helper.make_node("Reshape", ["c", "shape"], ["restored"]),
            weights=(scales, size),
        )
    )
    known = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert known["scales"] == TensorProto.FLOAT
    assert known["size"] == TensorProto.INT64


def test_what_is_added_to_the_input_is_added_in_float32() -> None:
    graph = check(filtered(helper.make_node("Add", ["a", "image"], ["restored"])), tolerance=1e-3)
    assert [each.op_type for each in graph.node] == ["Cast", "Conv", "Cast", "Add"]
    assert "image" in graph.node[-1].input


def test_limits_and_a_padding_are_stored_as_the_layer_wants_them() -> None:
    limits = [numpy_helper.from_array(np.array(x, np.float32), n) for n, x in (("l", 0), ("h", 6))]
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 0, 0], np.int64), "pads")
    nodes = (
        helper.make_node("Clip", ["a", "l", "h"], ["b"]),
        helper.make_node("Pad", ["b", "pads", "l"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["restored"], pads=[0, 0, 1, 1]),
    )
    graph = check(filtered(*nodes, weights=(*limits, pads)))
    assert [each.op_type for each in graph.node] == ["Cast", "Conv", "Clip", "Pad", "Conv", "Cast"]
    assert all(tensor.data_type != TensorProto.FLOAT for tensor in graph.initializer)


def test_an_unknown_operation_is_given_float32_and_nothing_follows_it() -> None:
    nodes = (
        helper.make_node("Mod", ["a", "one"], ["b"], fmod=1),
        helper.make_node("Add", ["b", "a"], ["restored"]),
    )
    one = numpy_helper.from_array(np.array(1e3, np.float32), "one")
    graph = check(filtered(*nodes, weights=(one,)))
    assert [each.op_type for each in graph.node] == ["Cast", "Conv", "Cast", "Mod", "Add"]


def test_a_graph_with_graphs_inside_stays_as_it_is() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["x"])],
        "inner",
        [],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    data = filtered(
        helper.make_node("If", ["yes"], ["restored"], then_branch=inner, else_branch=inner),
        weights=(yes,),
    )
    assert converted(data, "float16") == data


def test_a_converted_graph_is_not_converted_again() -> None:
    once = converted(models.smoother(), "float16")
    batch = noise((1, 1, 16, 16))
    twice = converted(once, "float16")
    np.testing.assert_array_equal(on_onnxruntime(twice, batch), on_onnxruntime(once, batch))


def test_bfloat16_is_rounded_as_everybody_does() -> None:
    values = noise((1000,)) * np.float32(1e3)
    values[:4] = [1.00390625, 1.01171875, 0.0, -3.3e38]
    expected = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(bfloat16(values), expected)
