"""Writes hello.onnx: y = Relu(x . w + b) for x, y f32[2, 2]. A stand-in for a model that you trained and exported.

    make_model.py hello.onnx

ONNX files are Protocol Buffers; the few messages needed are encoded by hand here, so that no package is needed.
"""
import struct
import sys


def number(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(tag, value):
    """One field: an integer, or bytes (text, or a message already encoded)."""
    if isinstance(value, int):
        return number(tag << 3) + number(value)
    if isinstance(value, str):
        value = value.encode()
    return number(tag << 3 | 2) + number(len(value)) + value


def tensor_type(name, dims):  # ValueInfoProto of an f32 tensor
    shape = b"".join(field(1, field(1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def node(operator, inputs, output, name):
    return b"".join(field(1, i) for i in inputs) + field(2, output) + field(3, name) + field(4, operator)


def weights(name, dims, values):  # TensorProto of f32
    return b"".join(field(1, d) for d in dims) + field(2, 1) + field(8, name) + field(9, struct.pack("<%df" % len(values), *values))


graph = field(1, node("MatMul", ["x", "w"], "product", "product"))
graph += field(1, node("Add", ["product", "b"], "sum", "sum"))
graph += field(1, node("Relu", ["sum"], "y", "relu"))
graph += field(2, "hello")
graph += field(5, weights("w", [2, 2], [1, 2, 3, 4]))
graph += field(5, weights("b", [2], [-10, 0.5]))
graph += field(11, tensor_type("x", [2, 2])) + field(12, tensor_type("y", [2, 2]))
model = field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))  # IR version 8, opset 13
with open(sys.argv[1], "wb") as file:
    file.write(model)
