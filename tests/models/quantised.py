"""Quantised models with seeded weights, for tests/onnx/quantised_agree.py and benchmarks/quantised.py.

    .cache/venv/bin/python tests/models/quantised.py FOLDER

QDQ form: every tensor between layers is u8 or i8 by QuantizeLinear and read through DequantizeLinear; weights are i8 by
channel, biases i32. Scales are chosen so that activations fill the range without ending at its ends.
"""
import math
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Builder:
    def __init__(self, seed, activation=np.uint8):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0
        self.activation = np.dtype(activation)

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, **attributes):
        self.count += 1
        name = f"t{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{self.count}", **attributes))
        return name

    def zero(self):
        """A zero point somewhere in the type's range; where values are all positive, at its low end."""
        info = np.iinfo(self.activation)
        return int(self.rng.integers(info.min // 2 + 40, info.max // 2 + 60))

    def quantise(self, x, scale, zero):
        """x through QuantizeLinear and DequantizeLinear."""
        s, z = self.constant(np.float32(scale)), self.constant(np.array(zero, self.activation))
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, s, z]), s, z])

    def weight(self, shape, axis, per_channel=True):
        """i8 weights [shape] with scales for each index of `axis`, whose products have about the variance of their inputs."""
        fan_in = math.prod(shape) // shape[axis]
        channels = shape[axis]
        scale = np.float32(math.sqrt(1 / fan_in) / 60) * (self.rng.uniform(0.7, 1.3, channels).astype(np.float32) if per_channel else np.float32(1))
        values = np.clip(np.rint(self.rng.standard_normal(shape) * 60), -128, 127).astype(np.int8)
        zero = np.zeros(channels if per_channel else (), np.int8)
        attributes = {"axis": axis} if per_channel else {}
        name = self.node("DequantizeLinear", [self.constant(values), self.constant(scale), self.constant(zero)], **attributes)
        return name, scale

    def bias(self, channels, x_scale, w_scale):
        scale = np.broadcast_to(np.float32(x_scale) * np.asarray(w_scale, np.float32), channels).astype(np.float32)
        values = np.rint(self.rng.standard_normal(channels) * 0.1 / scale).astype(np.int32)
        return self.node("DequantizeLinear", [self.constant(values), self.constant(scale), self.constant(np.zeros(channels, np.int32))], axis=0)

    def model(self, inputs, outputs):
        graph = helper.make_graph(self.nodes, "quantised", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def matmul_integer(m, k, n, left=np.uint8, right=np.int8, left_zero=None, right_zero=None, constant=True, seed=0):
    """MatMulInteger; zero points are None, numbers or arrays."""
    b = Builder(seed)
    info = np.iinfo(right)
    weights = b.rng.integers(info.min, info.max + 1, (k, n)).astype(right)
    inputs = ["a", b.constant(weights) if constant else "b"]
    inputs += [b.constant(np.array(left_zero, left)) if left_zero is not None else ""]
    inputs += [b.constant(np.array(right_zero, right)) if right_zero is not None else ""]
    while not inputs[-1]:
        inputs.pop()
    b.nodes.append(helper.make_node("MatMulInteger", inputs, ["y"], name="product"))
    values = [value("a", left, [m, k])] + ([] if constant else [value("b", right, [k, n])])
    return b.model(values, [value("y", np.int32, [m, n])]), weights


def resnet_like(size=224, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), classes=1000, seed=0, activation=np.uint8):
    """ResNet-18 in QDQ form: stem 7x7, max pool, residual blocks, global average, a linear layer."""
    b = Builder(seed, activation)
    low, high = np.iinfo(b.activation).min, np.iinfo(b.activation).max
    positive, middle = low, (low + high + 1) // 2
    x_scale = 6 / 255

    def conv(x, x_scale, c_in, c_out, kernel, stride, relu=True):
        w, w_scale = b.weight((c_out, c_in, kernel, kernel), 0)
        y = b.node("Conv", [x, w, b.bias(c_out, x_scale, w_scale)], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                   pads=[kernel // 2] * 4)
        return b.quantise(b.node("Relu", [y]) if relu else y, 6 / 255, positive if relu else middle)

    x = b.quantise("image", x_scale, middle)
    x = conv(x, x_scale, 3, widths[0], 7, 2)
    x = b.quantise(b.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 6 / 255, positive)
    c_in = widths[0]
    for width, count in zip(widths, blocks):
        for i in range(count):
            stride = 2 if i == 0 and width != widths[0] else 1
            y = conv(x, 6 / 255, c_in, width, 3, stride)
            y = conv(y, 6 / 255, width, width, 3, 1, relu=False)
            if stride != 1 or c_in != width:
                x = conv(x, 6 / 255, c_in, width, 1, stride, relu=False)
            x = b.quantise(b.node("Relu", [b.node("Add", [y, x])]), 6 / 255, positive)
            c_in = width
    x = b.quantise(b.node("GlobalAveragePool", [x]), 3 / 255, positive)
    x = b.node("Flatten", [x])
    w, w_scale = b.weight((classes, c_in), 0, per_channel=False)
    x = b.node("Gemm", [x, w, b.bias(classes, 3 / 255, w_scale)], transB=1)
    b.nodes.append(helper.make_node("Identity", [b.quantise(x, 6 / 255, middle)], ["y"], name="out"))
    return b.model([value("image", np.float32, [1, 3, size, size])], [value("y", np.float32, [1, classes])])


def benchmark_models():
    """name: (model, feeds)."""
    rng = np.random.default_rng(1)
    for m in (512, 1):
        a = rng.integers(0, 256, (m, 512)).astype(np.uint8)
        yield f"matmul-{m}x512x512", matmul_integer(m, 512, 512, left_zero=128)[0], {"a": a}
    yield "resnet18-qdq", resnet_like(), {"image": rng.standard_normal((1, 3, 224, 224)).astype(np.float32)}


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, model, feeds in benchmark_models():
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")
        for key, array in feeds.items():
            np.save(folder / f"{name}.{key}.npy", array)
        print(folder / f"{name}.onnx")
