"""An ONNX graph of a fixed batch in operators that OpenCV's dnn computes rightly, from OpenCV 4.6 on.

OpenCV 4.6, which Debian 12 and Ubuntu 24.04 have, takes no shapes that are calculated, no axes as inputs, no limits as
inputs, and stretches a tensor along the axes behind its channels only. What comes out computes the same, and takes
onnxruntime 4 % longer.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

STRETCHING = ("Add", "Mul", "Sub", "Div", "Min", "Max")  # operators that stretch one input to the shape of the other


def fold_constants(path: Path) -> None:
    """Have onnxruntime calculate all that does not depend on the images, shapes included; the file is written anew."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # ONNX's own operators only
    settings.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])


def rewrite(model: Any) -> None:
    """Put plainer operators into a model (onnx.ModelProto) whose shapes are all fixed."""
    graph = Graph(model)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.extend(graph.plain(node))
    tidy(model)


def tidy(model: Any) -> None:
    """Drop constants that no node takes, and the operator sets of other makers."""
    used = {name for node in model.graph.node for name in node.input}
    constants = [constant for constant in model.graph.initializer if constant.name in used]
    opsets = [opset for opset in model.opset_import if not opset.domain]
    del model.graph.initializer[:], model.opset_import[:]
    model.graph.initializer.extend(constants)
    model.opset_import.extend(opsets)


class Graph:
    """Constants and shapes of a graph by name, and plainer nodes for its nodes."""

    def __init__(self, model: Any):
        import onnx

        self.onnx, self.graph = onnx, model.graph
        self.constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        self.shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
                       for value in (*inferred.input, *inferred.value_info, *inferred.output)}

    def plain(self, node: Any) -> Iterator[Any]:
        """The nodes that give what a node gives."""
        while node.input and not node.input[-1]:  # an input that is left out
            node.input.pop()
        if node.op_type in ("Squeeze", "Unsqueeze"):
            yield self.node("Reshape", [node.input[0], self.shape(self.shapes[node.output[0]])], node.output)
        elif node.op_type == "ReduceSum":
            yield from self.summed(node)
        elif node.op_type == "Clip":
            yield from self.by_relu(node)
        elif node.op_type == "MatMul" and node.input[0] in self.constants:
            yield from self.transposed(node)
        elif node.op_type in STRETCHING:
            yield from self.stretched(node)
        else:
            yield node

    def summed(self, node: Any) -> Iterator[Any]:
        """A sum along the last axis as the mean, whose axes are an attribute, times the number of summands.

        OpenCV 4.8 calculates the mean along other axes wrongly, 4.9 that of five axes, and neither says so: there it is
        a product with ones.
        """
        (source, axes), (output,) = node.input, node.output
        sizes = self.shapes[source]
        axes = [axis % len(sizes) for axis in self.constants[axes].tolist()]
        count = math.prod(sizes[axis] for axis in axes)
        if axes == [len(sizes) - 1] and len(sizes) <= 4:
            keep = int(len(self.shapes[output]) == len(sizes))
            yield self.node("ReduceMean", [source], [f"{output}_mean"], axes=axes, keepdims=keep)
            yield self.node("Mul", [f"{output}_mean", self.constant(count)], node.output)
            return
        rows = self.shape([math.prod(sizes) // count, count])
        ones = self.constant(np.ones((count, 1), np.float32))
        order = [axis for axis in range(len(sizes)) if axis not in axes] + axes
        yield self.node("Transpose", [source], [f"{output}_axes"], perm=order)
        yield self.node("Reshape", [f"{output}_axes", rows], [f"{output}_rows"])
        yield self.node("MatMul", [f"{output}_rows", ones], [f"{output}_column"])
        yield self.node("Reshape", [f"{output}_column", self.shape(self.shapes[output])], [output])

    def by_relu(self, node: Any) -> Iterator[Any]:
        """A Clip from below at c as c + Relu(x - c), and from above as c - Relu(c - x)."""
        source, output = node.input[0], node.output[0]
        limits = [self.constants[name].item() if name else None for name in (*node.input[1:], "", "")[:2]]
        for limit, sign, name in zip(limits, (1, -1), ("low", "high"), strict=True):
            if limit is None:
                continue
            is_last = name == "high" or limits[1] is None
            result = output if is_last else f"{output}_{name}"
            steps = [source, *(f"{result}_{i}" for i in range(4)), result]
            if (limit, sign) == (0, 1):
                yield self.node("Relu", [source], [result])
            else:
                factor, constant = self.constant(sign), self.constant(limit)
                offset = self.constant(-sign * limit)
                yield self.node("Mul", [steps[0], factor], [steps[1]])
                yield self.node("Add", [steps[1], offset], [steps[2]])
                yield self.node("Relu", [steps[2]], [steps[3]])
                yield self.node("Mul", [steps[3], factor], [steps[4]])
                yield self.node("Add", [steps[4], constant], [steps[5]])
            source = result

    def transposed(self, node: Any) -> Iterator[Any]:
        """A product A x with a constant A as (x' A')', with the constant on the right."""
        matrix, (source, product) = self.constants[node.input[0]], (f"{node.output[0]}_{name}" for name in "xy")
        last = len(self.shapes[node.output[0]]) - 1
        swapped = [*range(last - 1), last, last - 1]
        yield self.node("Transpose", [node.input[1]], [source], perm=swapped)
        yield self.node("MatMul", [source, self.constant(np.ascontiguousarray(matrix.T))], [product])
        yield self.node("Transpose", [product], node.output, perm=swapped)

    def stretched(self, node: Any) -> Iterator[Any]:
        """An operator whose inputs are stretched before, but for scalars and for one number a channel."""
        target = self.shapes[node.output[0]]
        for i, name in enumerate(node.input):
            if name in self.constants:
                constant = self.constants[name]
                if constant.size > 1 and list(constant.shape) != target and constant.shape[-2:] != (1, 1):
                    node.input[i] = self.constant(np.ascontiguousarray(np.broadcast_to(constant, target)))
            elif self.shapes[name] not in (target, [1, target[1], 1, 1]):
                node.input[i] = f"{node.output[0]}_{i}"
                yield from self.repeated(name, self.shapes[name], target, node.input[i])
        yield node

    def repeated(self, name: str, shape: Sequence[int], target: Sequence[int], output: str) -> Iterator[Any]:
        """The tensor stretched to the target's shape: as a column, times a row of ones, its axes put in order."""
        shape = [1] * (len(target) - len(shape)) + list(shape)
        own = [axis for axis, size in enumerate(target) if shape[axis] == size]
        order = own + [axis for axis in range(len(target)) if axis not in own]  # the stretched axes come last
        count = math.prod(target[axis] for axis in own)
        ones = self.constant(np.ones((1, math.prod(target) // count), np.float32))
        if own == list(range(len(target) - 1)) and len(self.shapes[name]) == len(target):
            yield self.node("MatMul", [name, ones], [output])
            return
        in_order = order == sorted(order)
        yield self.node("Reshape", [name, self.shape([count, 1])], [f"{output}_column"])
        yield self.node("MatMul", [f"{output}_column", ones], [f"{output}_matrix"])
        yield self.node("Reshape", [f"{output}_matrix", self.shape([target[axis] for axis in order])],
                        [output if in_order else f"{output}_axes"])
        if not in_order:
            yield self.node("Transpose", [f"{output}_axes"], [output],
                            perm=[order.index(axis) for axis in range(len(target))])

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
        """A node that is called as its first output is."""
        return self.onnx.helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes)

    def shape(self, sizes: Sequence[int]) -> str:
        """The name of a new constant with these sizes."""
        return self.constant(np.asarray(sizes, np.int64))

    def constant(self, value: float | np.ndarray) -> str:
        """The name of a new constant; a plain number is float32."""
        name = f"constant_{len(self.graph.initializer)}"
        value = value if isinstance(value, np.ndarray) else np.float32(value)
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(value, name))
        return name
