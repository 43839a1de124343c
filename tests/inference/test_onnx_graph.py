"""Plainer operators give what the ones in their place gave."""

import numpy as np
import pytest

from inference import onnx_graph

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
X = np.random.default_rng(0).normal(size=(1, 4, 3, 5)).astype(np.float32)


def constant(name, values, kind=np.float32):
    return onnx.numpy_helper.from_array(np.asarray(values, kind), name)


def model_of(nodes, constants=(), second=None):
    """A model of inputs x (1, 4, 3, 5), and y where it has a second one, to the last node's output."""
    shapes = {"x": X.shape} | ({"y": second} if second else {})
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
              for name, shape in shapes.items()]
    output = onnx.helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(nodes, "test", inputs, [output], list(constants))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def outputs(model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def node(operator, *inputs, **attributes):
    return onnx.helper.make_node(operator, inputs, ["out"], name="node", **attributes)


CASES = {
    "sum along the last axis": ([node("ReduceSum", "x", "axes", keepdims=0)], [constant("axes", [-1], np.int64)]),
    "sum that keeps its axis": ([node("ReduceSum", "x", "axes")], [constant("axes", [3], np.int64)]),
    "sum along another axis": ([node("ReduceSum", "x", "axes")], [constant("axes", [2], np.int64)]),
    "sum over two axes": ([node("ReduceSum", "x", "axes", keepdims=0)], [constant("axes", [1, 3], np.int64)]),
    "sum of five axes": ([onnx.helper.make_node("Reshape", ["x", "sizes"], ["y"], name="five"),
                          onnx.helper.make_node("ReduceSum", ["y", "axes"], ["out"], name="sum", keepdims=0)],
                         [constant("sizes", [1, 2, 2, 5, 3], np.int64), constant("axes", [-1], np.int64)]),
    "an axis more": ([node("Unsqueeze", "x", "axes")], [constant("axes", [-2], np.int64)]),
    "an axis less": ([node("Squeeze", "x", "axes")], [constant("axes", [0], np.int64)]),
    "clip below at 0": ([node("Clip", "x", "low")], [constant("low", 0)]),
    "clip above": ([node("Clip", "x", "", "high")], [constant("high", 0.25)]),
    "clip on both sides": ([node("Clip", "x", "low", "high")], [constant("low", -0.2), constant("high", 0.3)]),
    "clip below 0 and above": ([node("Clip", "x", "low", "high")], [constant("low", 0), constant("high", 0.3)]),
    "clip below elsewhere": ([node("Clip", "x", "low", "")], [constant("low", 0.1)]),
    "a constant matrix on the left": ([node("MatMul", "a", "x")], [constant("a", np.eye(6, 3) - 0.3)]),
    "a constant along the last axis": ([node("Mul", "x", "a")], [constant("a", [1, 2, 3, 4, 5])]),
    "a constant before it": ([node("Sub", "a", "x")], [constant("a", np.arange(15).reshape(3, 5))]),
    "a scalar": ([node("Add", "x", "a")], [constant("a", 2.5)]),
    "a number a channel": ([node("Div", "x", "a")], [constant("a", np.arange(1, 5).reshape(4, 1, 1))]),
}
FORBIDDEN = {"ReduceSum", "Squeeze", "Unsqueeze", "Clip"}


@pytest.mark.parametrize("name", CASES)
def test_it_gives_the_same(name):
    nodes, constants = CASES[name]
    model = model_of(nodes, constants)
    expected = outputs(model, x=X)
    onnx_graph.rewrite(model)
    result = outputs(model, x=X)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & FORBIDDEN
    assert ("ReduceMean" in kinds) == (name in ("sum along the last axis", "sum that keeps its axis"))
    constants = {item.name for item in model.graph.initializer}
    assert not any(node.op_type == "MatMul" and node.input[0] in constants for node in model.graph.node)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 1, 3, 1), (1, 4, 1, 5), (3, 5), (5,), (1, 1, 1, 1), (1, 4, 3, 5)])
@pytest.mark.parametrize("order", [("x", "y"), ("y", "x")])
def test_a_stretched_input_has_the_full_shape_or_one_number_a_channel(shape, order):
    model = model_of([node("Sub", *order)], second=shape)
    y = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = outputs(model, x=X, y=y)
    onnx_graph.rewrite(model)
    np.testing.assert_allclose(outputs(model, x=X, y=y), expected, rtol=0, atol=1e-6)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    sizes = {value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
             for value in (*inferred.input, *inferred.value_info)}
    (subtraction,) = [node for node in model.graph.node if node.op_type == "Sub"]
    assert {sizes[name] for name in subtraction.input} <= {X.shape, (1, 4, 1, 1)}


def test_what_does_not_depend_on_the_images_is_folded_and_unused_constants_go(tmp_path):
    nodes = [onnx.helper.make_node("Shape", ["x"], ["shape"], name="a"),
             onnx.helper.make_node("Cast", ["shape"], ["sizes"], name="b", to=onnx.TensorProto.FLOAT),
             onnx.helper.make_node("ReduceSum", ["sizes"], ["total"], name="c"),
             onnx.helper.make_node("Mul", ["x", "total"], ["out"], name="d")]
    path = tmp_path / "model.onnx"
    onnx.save(model_of(nodes, [constant("unused", [1, 2])]), path)
    onnx_graph.fold_constants(path)
    model = onnx.load(path)
    onnx_graph.tidy(model)
    assert [node.op_type for node in model.graph.node] == ["Mul"] and len(model.graph.initializer) == 1
    assert [opset.domain for opset in model.opset_import] == [""]
    np.testing.assert_allclose(outputs(model, x=X), 13 * X, rtol=1e-6)
