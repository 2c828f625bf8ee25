"""Networks whose dims are free, as files: an encoder like BERT's with free batch and length, and Swin-T with a free batch.

    build(name, folder) -> path of an ONNX file, made once

The encoder is spelled as exporters write it (Shape, Range and Expand for positions, a mask added to the scores). Swin-T is
the exported one: the exporter wrote its batch of one into every Reshape, and a dim that is inferred takes its place.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

WIDTH, HEADS, LAYERS, INNER, WORDS, POSITIONS = 128, 4, 2, 384, 1000, 512


class Builder:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.count = [], [], 0

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values):
        return self.weight(np.array(values, np.int64))

    def scalar(self, value):
        return self.weight(np.array(value, np.float32))

    def __call__(self, op, *inputs, **attributes):
        self.count += 1
        out = f"{op}_{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"n{self.count}", **attributes))
        return out

    def linear(self, x, fan_in, fan_out):
        w = self.rng.standard_normal((fan_in, fan_out)).astype(np.float32) / np.float32(np.sqrt(fan_in))
        return self("Add", self("MatMul", x, self.weight(w)), self.weight(0.1 * self.rng.standard_normal(fan_out).astype(np.float32)))

    def norm(self, x):
        mean = self("ReduceMean", x, axes=[-1])
        centred = self("Sub", x, mean)
        variance = self("ReduceMean", self("Mul", centred, centred), axes=[-1])
        scaled = self("Div", centred, self("Sqrt", self("Add", variance, self.scalar(1e-12))))
        gain = self.rng.uniform(0.7, 1.3, WIDTH).astype(np.float32)
        return self("Add", self("Mul", scaled, self.weight(gain)), self.weight(0.1 * self.rng.standard_normal(WIDTH).astype(np.float32)))


def bert():
    b = Builder(7)
    table = lambda rows: b.weight(b.rng.standard_normal((rows, WIDTH)).astype(np.float32))
    shape = b("Shape", "ids")
    length = b("Gather", shape, b.weight(np.array(1, np.int64)))
    positions = b("Range", b.weight(np.array(0, np.int64)), length, b.weight(np.array(1, np.int64)))
    positions = b("Expand", b("Unsqueeze", positions, b.ints(0)), shape)
    x = b("Add", b("Gather", table(WORDS), "ids"), b("Gather", table(POSITIONS), positions))
    x = b.norm(b("Add", x, b("Gather", table(2), "types")))
    kept = b("Unsqueeze", b("Cast", "mask", to=T.FLOAT), b.ints(1, 2))
    bias = b("Mul", b("Sub", b.scalar(1), kept), b.scalar(-1e9))
    heads, merged = b.ints(0, 0, HEADS, WIDTH // HEADS), b.ints(0, 0, WIDTH)
    for _ in range(LAYERS):
        q, k, v = (b("Transpose", b("Reshape", b.linear(x, WIDTH, WIDTH), heads), perm=[0, 2, 1, 3]) for _ in range(3))
        scores = b("Div", b("MatMul", q, b("Transpose", k, perm=[0, 1, 3, 2])), b.scalar(np.sqrt(WIDTH / HEADS)))
        mixed = b("MatMul", b("Softmax", b("Add", scores, bias), axis=-1), v)
        mixed = b("Reshape", b("Transpose", mixed, perm=[0, 2, 1, 3]), merged)
        x = b.norm(b("Add", x, b.linear(mixed, WIDTH, WIDTH)))
        h = b.linear(x, WIDTH, INNER)
        h = b("Mul", b("Mul", h, b("Add", b("Erf", b("Div", h, b.scalar(np.sqrt(2)))), b.scalar(1))), b.scalar(0.5))
        x = b.norm(b("Add", x, b.linear(h, INNER, WIDTH)))
    b.nodes.append(helper.make_node("Identity", [x], ["hidden"]))
    first = b("Squeeze", b("Slice", x, b.ints(0), b.ints(1), b.ints(1)), b.ints(1))
    b.nodes.append(helper.make_node("Tanh", [b.linear(first, WIDTH, WIDTH)], ["pooled"]))
    tensor = lambda name, kind, dims: helper.make_tensor_value_info(name, kind, dims)
    graph = helper.make_graph(b.nodes, "encoder", [tensor(n, T.INT64, ["batch", "length"]) for n in ("ids", "mask", "types")],
                              [tensor("hidden", T.FLOAT, ["batch", "length", WIDTH]), tensor("pooled", T.FLOAT, ["batch", WIDTH])], b.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def swin():
    model = onnx.load(harness.MODELS / "torch" / "swin_t.onnx")
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    # What each Reshape is told with a batch of one: most shapes are computed.
    asked = sorted({n.input[1] for n in graph.node if n.op_type == "Reshape"})
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, T.INT64, None) for name in asked)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options)
    told = dict(zip(asked, session.run(asked, {"image": np.zeros((1, 3, 224, 224), np.float32)})))
    weights = {w.name for w in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] in weights or -1 in told[node.input[1]]:
            continue
        name = f"{node.output[0]}_free_shape"
        graph.initializer.append(numpy_helper.from_array(np.array([-1, *told[node.input[1]][1:]], np.int64), name))
        node.input[1] = name
    return model


BUILDERS = {"bert": bert, "swin": swin}


def build(name, folder):
    path = folder / f"{name}-{harness.hash_of(pathlib.Path(__file__))[:8]}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        onnx.save(BUILDERS[name](), temporary)
        temporary.replace(path)
    return path
