"""An ONNX file whose convolutions calculate in half precision, or in 8-bit integers.

Coordinates stay float32: half precision rounds them to 0.3 px of 1280. So do the images and the outputs.
The layers are found by their names, which are those of the modules.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PRECISIONS = ("fp32", "fp16", "int8")
FP16_MODULES = ("trunk", "neck", "head/mix", "head/columns", "head/modulation", "head/along", "head/ends",
                "head/exists")
INT8_MODULES = ("trunk", "neck", "head/mix")
STEM = "trunk.0/trunk.0.0"  # float32: in 8 bits it costs more px than all the others together
INT8_OPERATORS = ("Conv", "Add", "Relu")


def is_part_of(node: Any, *modules: str) -> bool:
    """Whether a node comes from one of these modules of the network."""
    return node.name.startswith(tuple(f"/network/{module}{end}" for module in modules for end in "./"))


def to_half(model: Any) -> None:
    """Have the FP16_MODULES of a model (onnx.ModelProto) calculate in half precision, their weights included."""
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    single = {value.name for value in (*graph.input, *graph.value_info, *graph.output)
              if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {item.name: item for item in model.graph.initializer if item.data_type == TensorProto.FLOAT}
    half, written, nodes = set(), set(), []
    for node in list(model.graph.node):
        inside = is_part_of(node, *FP16_MODULES)
        for i, name in enumerate(node.input[:1] if node.op_type == "Resize" else node.input):  # which has scales
            if inside == (name in half) or name not in (single | weights.keys()):
                continue
            node.input[i] = converted = f"{name}_{'half' if inside else 'single'}"
            if converted in written:
                continue
            written.add(converted)
            if name in weights:
                values = numpy_helper.to_array(weights[name]).astype(np.float16)
                model.graph.initializer.append(numpy_helper.from_array(values, converted))
            else:
                kind = TensorProto.FLOAT16 if inside else TensorProto.FLOAT
                nodes.append(helper.make_node("Cast", [name], [converted], name=f"/Cast/{converted}", to=kind))
        half.update(name for name in node.output if inside and name in single)
        nodes.append(node)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)


def to_int8(model: Any, images: np.ndarray) -> Any:
    """The model with its INT8_MODULES in 8 bits, whose ranges are those on images (N, 3, F, W).

    Weights have 7 bits: of 8 the sums overflow on CPUs with AVX2 and without VNNI, which would falsify lanes there.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    (images_input,) = model.graph.input
    kind = onnx.helper.tensor_dtype_to_np_dtype(images_input.type.tensor_type.elem_type)
    batch = images_input.type.tensor_type.shape.dim[0].dim_value or 1
    batches = [images[np.arange(i, i + batch) % len(images)].astype(kind) for i in range(0, len(images), batch)]

    class Images(CalibrationDataReader):
        feeds = iter([{"images": batch} for batch in batches])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    names = [node.name for node in model.graph.node if node.op_type in INT8_OPERATORS
             and is_part_of(node, *INT8_MODULES) and not is_part_of(node, STEM)]
    assert names, "an empty list would mean all"
    # That its constants are folded, without which onnxruntime logs a piece of advice.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(model, path, Images(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_quantize=names,
                        op_types_to_quantize=list(INT8_OPERATORS))
        return onnx.load(path)
