"""Draws single-node ONNX models: operator x attributes x ranks x broadcasts x opsets x types, from a seed.

One function per family of operators. It returns a Case: the node's inputs with their values, which of them are
constants of the model, the attributes and the opset. Shapes are small; values are drawn so that results neither
overflow nor hang on a discontinuity (a sum close to a rounding border, a tie in an arg-max).
"""
import dataclasses
import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOATS = ["float32"] * 6 + ["float64", "float16"]
INTEGERS = ["int32", "int64"]


@dataclasses.dataclass
class Case:
    op: str
    inputs: list  # (array or None for an absent one, is it a constant of the model)
    attributes: dict
    opset: int
    outputs: int = 1
    types: dict = dataclasses.field(default_factory=dict)


class Draw:
    """The random choices of one case."""

    def __init__(self, seed):
        self.py = random.Random(seed)
        self.np = np.random.default_rng(self.py.getrandbits(32))

    def pick(self, *options):
        return self.py.choice(options)

    def chance(self, p):
        return self.py.random() < p

    def integer(self, low, high):
        return self.py.randint(low, high)

    def shape(self, low=0, high=5, largest=7):
        return tuple(self.integer(1, largest) for _ in range(self.integer(low, high)))

    def values(self, shape, type="float32", low=-2.0, high=2.0):
        if type == "bool":
            return self.np.integers(0, 2, shape).astype(bool)
        if np.dtype(type).kind in "iu":
            floor = 0 if np.dtype(type).kind == "u" else int(np.floor(low * 4))
            return self.np.integers(floor, max(floor + 1, int(np.ceil(high * 4))) + 1, shape).astype(type)
        return self.np.uniform(low, high, shape).astype(type)

    def axis(self, rank):
        return self.integer(-rank, rank - 1)

    def broadcast(self, count=2, high=5):
        """`count` shapes that broadcast with each other."""
        full = self.shape(0, high)
        shapes = []
        for _ in range(count):
            kept = full[self.integer(0, len(full)):] if self.chance(0.4) else full
            shapes.append(tuple(1 if self.chance(0.25) else d for d in kept))
        return shapes


def opset(d, since=7):
    return d.pick(*[v for v in (7, 9, 11, 12, 13, 15, 17, 18, 21, 22) if v >= since])


def constant(d):
    return d.chance(0.3)


UNARY = {  # operator: (first opset, low, high, types)
    "Abs": (7, -3, 3, FLOATS + INTEGERS), "Neg": (7, -3, 3, FLOATS + INTEGERS), "Exp": (7, -9, 9, FLOATS[:7]),
    "Log": (7, 0.01, 9, FLOATS[:7]), "Sqrt": (7, 0, 99, FLOATS), "Reciprocal": (7, 0.2, 5, FLOATS),
    "Floor": (7, -9, 9, FLOATS), "Ceil": (7, -9, 9, FLOATS), "Round": (11, -9, 9, FLOATS),
    "Sign": (9, -2, 2, FLOATS + INTEGERS), "Relu": (7, -2, 2, FLOATS), "Sigmoid": (7, -9, 9, FLOATS),
    "Tanh": (7, -4, 4, FLOATS), "Erf": (9, -3, 3, FLOATS[:6]), "Softplus": (7, -9, 9, FLOATS[:6]),
    "Softsign": (7, -9, 9, FLOATS[:6]), "Not": (7, 0, 1, ["bool"]), "Identity": (7, -3, 3, FLOATS + INTEGERS),
    "Sin": (7, -9, 9, FLOATS[:7]), "Cos": (7, -9, 9, FLOATS[:7]), "Atan": (7, -9, 9, FLOATS[:6]),
    "HardSwish": (14, -5, 5, FLOATS[:6]), "IsNaN": (9, -2, 2, FLOATS[:6]), "Tan": (7, -1.2, 1.2, FLOATS[:6]),
}
UNARY_ALPHA = {"LeakyRelu": (7, ["alpha"]), "Elu": (7, ["alpha"]), "HardSigmoid": (7, ["alpha", "beta"]),
               "Selu": (7, ["alpha", "gamma"]), "ThresholdedRelu": (10, ["alpha"]), "Celu": (12, ["alpha"])}
BINARY = {"Add": FLOATS + INTEGERS, "Sub": FLOATS + INTEGERS, "Mul": FLOATS + INTEGERS, "Div": FLOATS + INTEGERS,
          "Pow": FLOATS[:7], "PRelu": FLOATS[:6]}
LOGIC = {"And": (7, ["bool"]), "Or": (7, ["bool"]), "Xor": (7, ["bool"]),
         "Equal": (11, ["float32", "int32", "int64", "bool"]), "Less": (9, ["float32", "int32", "int64"]),
         "Greater": (9, ["float32", "int32", "int64"]), "LessOrEqual": (12, ["float32", "int32", "int64"]),
         "GreaterOrEqual": (12, ["float32", "int32", "int64"])}
REDUCTIONS = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
              "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"]


def unary(d, op):
    since, low, high, types = UNARY[op]
    return Case(op, [(d.values(d.shape(), d.pick(*types), low, high), False)], {}, opset(d, since))


def unary_alpha(d, op):
    since, names = UNARY_ALPHA[op]
    attributes = {n: d.np.uniform(0.1, 1.5) for n in names if d.chance(0.7)}
    return Case(op, [(d.values(d.shape(), "float32", -4, 4), False)], attributes, opset(d, since))


def binary(d, op):
    type = d.pick(*BINARY[op])
    a, b = d.broadcast()
    version = opset(d, 15 if op == "PRelu" else 7)
    if op == "PRelu":
        a = np.broadcast_shapes(a, b)  # only the slope broadcasts
        if b == () or len(b) > len(a):
            b = (1,)
        a = a or (3,)
    low = 0.3 if op in ("Div", "Pow") else -2
    x, y = d.values(a, type, -2 if op != "Pow" else 0.1, 2), d.values(b, type, low, 2)
    if op == "Div" and np.dtype(type).kind == "i":
        y = np.where(y == 0, 3, y).astype(type) * d.pick(1, -1)
        y = np.asarray(y, type)
    return Case(op, [(x, False), (y, constant(d))], {}, version)


def logic(d, op):
    since, types = LOGIC[op]
    type = d.pick(*types)
    a, b = d.broadcast()
    x, y = d.values(a, type), d.values(b, type)
    if op == "Equal" and type == "float32":
        x, y = np.round(x), np.round(y)
    return Case(op, [(x, False), (y, constant(d))], {}, opset(d, since))


def variadic(d, op):
    count = d.integer(1, 4)
    type = d.pick("float32", "float32", "float64") if op in ("Mean", "Sum") else d.pick(*FLOATS[:7], *INTEGERS)
    return Case(op, [(d.values(s, type), i > 0 and constant(d)) for i, s in enumerate(d.broadcast(count))], {},
                opset(d, 13))


def where(d, op):
    a, b, c = d.broadcast(3)
    type = d.pick("float32", "int64", "int32")
    return Case(op, [(d.values(a, "bool"), False), (d.values(b, type), constant(d)), (d.values(c, type), constant(d))],
                {}, opset(d, 9))


def clip(d, op):
    version = opset(d, 7)
    x = d.values(d.shape(), "float32", -4, 4)
    low, high = np.float32(d.np.uniform(-2, 0)), np.float32(d.np.uniform(0.1, 2))
    if version < 11:
        return Case(op, [(x, False)], {k: float(v) for k, v in (("min", low), ("max", high)) if d.chance(0.8)}, version)
    inputs = [(x, False), (np.asarray(low) if d.chance(0.8) else None, d.chance(0.7)),
              (np.asarray(high) if d.chance(0.8) else None, d.chance(0.7))]
    while inputs[-1][0] is None:
        inputs.pop()
    return Case(op, inputs, {}, version)


def cast(d, op):
    kinds = ["float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "bool"]
    source, target = d.pick(*kinds), d.pick(*kinds)
    unsigned = np.dtype(target).kind == "u"
    x = d.values(d.shape(), source, 0 if unsigned else -9, 9)
    return Case(op, [(x, False)], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(target))}, opset(d, 9))


def reduction(d, op):
    shape = d.shape(1, 5)
    rank = len(shape)
    type = d.pick("float32", "float32", "float32", "float64") if op not in ("ReduceSum", "ReduceMax", "ReduceMin") \
        else d.pick("float32", "float32", "float64", "int32", "int64")
    low = 0.1 if "Log" in op and "Exp" not in op else -2
    version = opset(d, 7)
    if version < 13 and op in ("ReduceMax", "ReduceMin", "ReduceSum"):
        type = "float32"
    axes = sorted(d.py.sample(range(rank), d.integer(1, rank)))
    axes = [a - rank if version >= 11 and d.chance(0.3) else a for a in axes]
    absent = d.chance(0.2)
    attributes = {"keepdims": d.integer(0, 1)} if d.chance(0.8) else {}
    inputs = [(d.values(shape, type, low, 2), False)]
    as_input = version >= (13 if op == "ReduceSum" else 18)
    if as_input:
        if d.chance(0.15):
            attributes["noop_with_empty_axes"] = d.integer(0, 1)
        if not absent:
            inputs.append((np.array(axes, np.int64), True))
    elif not absent:
        attributes["axes"] = axes
    return Case(op, inputs, attributes, version)


def arg_reduction(d, op):
    shape = d.shape(1, 4)
    x = d.np.permutation(int(np.prod(shape))).reshape(shape).astype(d.pick("float32", "float32", "int32"))
    attributes = {}
    if d.chance(0.8):
        attributes["axis"] = d.axis(len(shape))
    if d.chance(0.8):
        attributes["keepdims"] = d.integer(0, 1)
    return Case(op, [(x, False)], attributes, opset(d, 13))


def softmax(d, op):
    version = opset(d, 7)
    shape = d.shape(1 if version >= 13 else 2, 4)
    attributes = {"axis": d.axis(len(shape)) if version >= 11 else d.integer(0, len(shape) - 1)} if d.chance(0.8) else {}
    if version < 13 and not attributes and len(shape) < 2:
        attributes = {"axis": 0}
    return Case(op, [(d.values(shape, d.pick("float32", "float32", "float32", "float64"), -5, 5), False)], attributes,
                version)


def transpose(d, op):
    shape = d.shape(1, 6, 5)
    perm = list(range(len(shape)))
    d.py.shuffle(perm)
    return Case(op, [(d.values(shape, d.pick(*FLOATS, *INTEGERS, "bool", "uint8")), False)],
                {"perm": perm} if d.chance(0.8) else {}, opset(d, 7))


def reshape(d, op):
    shape = d.shape(1, 5)
    size = int(np.prod(shape))
    target, left = [], size
    for _ in range(d.integer(1, 4)):
        factor = d.pick(*[f for f in range(1, left + 1) if left % f == 0])
        target.append(factor)
        left //= factor
    target.append(left)
    d.py.shuffle(target)
    if d.chance(0.5):
        target[d.integer(0, len(target) - 1)] = -1
    elif d.chance(0.5) and target[0] == shape[0]:
        target[0] = 0
    return Case(op, [(d.values(shape, d.pick("float32", "int64", "bool")), False), (np.array(target, np.int64), True)],
                {}, opset(d, 7))


def flatten(d, op):
    shape = d.shape(1, 5)
    version = opset(d, 9)
    axis = d.integer(-len(shape) if version >= 11 else 0, len(shape))
    return Case(op, [(d.values(shape), False)], {"axis": axis} if d.chance(0.8) else {}, version)


def squeeze(d, op):
    version = opset(d, 7)
    rank = d.integer(1, 5)
    ones = sorted(d.py.sample(range(rank), d.integer(1, rank)))
    if op == "Squeeze":
        shape = tuple(1 if i in ones else d.integer(2, 5) for i in range(rank))
    else:
        shape = tuple(d.integer(1, 5) for _ in range(rank - len(ones)))
    axes = [a - rank if version >= 11 and d.chance(0.3) else a for a in ones]
    inputs, attributes = [(d.values(shape, d.pick("float32", "int64")), False)], {}
    if op == "Squeeze" and d.chance(0.2):
        pass  # every dim of extent 1
    elif version >= 13:
        inputs.append((np.array(axes, np.int64), True))
    else:
        attributes["axes"] = axes
    return Case(op, inputs, attributes, version)


def concat(d, op):
    shape = list(d.shape(1, 4))
    axis = d.integer(0, len(shape) - 1)
    version = opset(d, 7)
    type = d.pick("float32", "int64", "int32", "bool")
    inputs = []
    for i in range(d.integer(1, 5)):
        shape[axis] = d.integer(1, 5)
        inputs.append((d.values(tuple(shape), type), i > 0 and constant(d)))
    return Case(op, inputs, {"axis": axis - len(shape) if version >= 11 and d.chance(0.3) else axis}, version)


def slice_(d, op):
    shape = d.shape(1, 4, 9)
    version = opset(d, 7)
    rank = len(shape)
    axes = d.py.sample(range(rank), d.integer(1, rank))
    starts, ends, steps = [], [], []
    for axis in axes:
        n = shape[axis]
        step = d.pick(1, 1, 2, 3, -1, -2) if version >= 10 else 1
        if step > 0:
            start = d.integer(0, n - 1)
            end = d.pick(d.integer(start + 1, n), 2**31 - 1, n + 5)
        else:
            start = d.pick(d.integer(0, n - 1), n + 3)
            end = d.pick(-n - 1, -2**31, d.integer(-1, min(start, n - 1)) - n)
        if step > 0 and d.chance(0.3):
            start -= n
        starts.append(start)
        ends.append(end)
        steps.append(step)
    x = d.values(shape, d.pick("float32", "int64"))
    if version < 10:
        return Case(op, [(x, False)], {"starts": starts, "ends": ends, "axes": axes}, version)
    type = d.pick(np.int64, np.int32)
    axes = [a - rank if d.chance(0.3) else a for a in axes]
    inputs = [(x, False)] + [(np.array(v, type), True) for v in (starts, ends, axes, steps)]
    if all(s == 1 for s in steps) and d.chance(0.5):
        inputs.pop()
    return Case(op, inputs, {}, version)


def split(d, op):
    parts = [d.integer(1, 4) for _ in range(d.integer(1, 4))]
    equal = d.chance(0.5)
    if equal:
        parts = [parts[0]] * len(parts)
    shape = list(d.shape(1, 4))
    axis = d.integer(0, len(shape) - 1)
    shape[axis] = sum(parts)
    version = d.pick(7, 11, 13, 15, 18, 22)
    inputs, attributes = [(d.values(tuple(shape)), False)], {"axis": axis}
    if version < 13:
        if not equal or d.chance(0.5):
            attributes["split"] = parts
    elif not equal or (version < 18 and d.chance(0.5)):
        inputs.append((np.array(parts, np.int64), True))
    elif version >= 18:
        attributes["num_outputs"] = len(parts)
    return Case(op, inputs, attributes, version, outputs=len(parts))


def expand(d, op):
    a, b = d.broadcast()
    target = b if len(b) else (3,)
    return Case(op, [(d.values(a, d.pick("float32", "int64", "bool")), False), (np.array(target, np.int64), True)], {},
                opset(d, 9))


def tile(d, op):
    shape = d.shape(1, 4, 4)
    return Case(op, [(d.values(shape), False), (np.array([d.integer(1, 3) for _ in shape], np.int64), True)], {},
                opset(d, 7))


def pad(d, op):
    shape = d.shape(1, 4)
    rank = len(shape)
    mode = d.pick("constant", "constant", "reflect", "edge")
    most = [min(3, n - 1) if mode == "reflect" else 3 for n in shape]
    pads = [d.integer(0, most[i % rank]) for i in range(2 * rank)]
    version = opset(d, 11)
    inputs = [(d.values(shape), False), (np.array(pads, np.int64), True)]
    if mode == "constant" and d.chance(0.6):
        inputs.append((np.float32(d.np.uniform(-1, 1)).reshape(()), True))
    return Case(op, inputs, {"mode": mode}, version)


def gather(d, op):
    shape = d.shape(1, 4)
    axis = d.integer(0, len(shape) - 1)
    n = shape[axis]
    version = opset(d, 7)
    low = -n if version >= 11 else 0
    indices = d.np.integers(low, n, d.shape(0, 3, 4)).astype(d.pick(np.int64, np.int32))
    return Case(op, [(d.values(shape, d.pick("float32", "int64")), False), (indices, constant(d))],
                {"axis": axis - len(shape) if version >= 11 and d.chance(0.3) else axis}, version)


def gather_elements(d, op):
    shape = d.shape(1, 3)
    axis = d.integer(0, len(shape) - 1)
    out = tuple(d.integer(1, n + (2 if i == axis else 0)) for i, n in enumerate(shape))
    out = tuple(min(o, n) if i != axis else o for i, (o, n) in enumerate(zip(out, shape)))
    return Case(op, [(d.values(shape), False), (d.np.integers(-shape[axis], shape[axis], out), constant(d))],
                {"axis": axis}, opset(d, 11))


def shape_(d, op):
    return Case(op, [(d.values(d.shape(0, 5)), False)], {}, opset(d, 7))


def constant_of_shape(d, op):
    value = d.values((1,), d.pick("float32", "int64", "int32", "bool"))
    return Case(op, [(np.array(d.shape(1, 4), np.int64), True)],
                {"value": numpy_helper.from_array(value)} if d.chance(0.8) else {}, opset(d, 9))


def matmul(d, op):
    type = d.pick("float32", "float32", "float32", "float64")
    m, k, n = (d.pick(1, 2, 5, 8, 17, 33) for _ in range(3))
    left, right = d.broadcast(2, 2)
    form = d.integer(0, 5)
    a, b = {0: ((k,), (k, n)), 1: ((m, k), (k,)), 2: ((k,), (k,))}.get(form, (left + (m, k), right + (k, n)))
    return Case(op, [(d.values(a, type), False), (d.values(b, type), constant(d))], {}, opset(d, 7))


def gemm(d, op):
    m, k, n = (d.pick(1, 3, 8, 17, 32) for _ in range(3))
    attributes = {}
    ta, tb = d.integer(0, 1), d.integer(0, 1)
    if ta or d.chance(0.3):
        attributes["transA"] = ta
    if tb or d.chance(0.3):
        attributes["transB"] = tb
    for name in ("alpha", "beta"):
        if d.chance(0.5):
            attributes[name] = d.np.uniform(0.3, 2)
    version = opset(d, 11)
    inputs = [(d.values((k, m) if ta else (m, k)), False), (d.values((n, k) if tb else (k, n)), constant(d))]
    if d.chance(0.8):
        inputs.append((d.values(d.pick((m, n), (n,), (1, n), (m, 1), (1,), ())), constant(d)))
    return Case(op, inputs, attributes, version)


def window(d, spatial, sizes, pooling=False):
    """Shared attributes of convolutions and pools: kernel, strides, dilations, pads; each output extent is >= 1."""
    kernel = [d.integer(1, min(4, n)) for n in sizes]
    attributes = {}
    dilations = [1] * spatial
    if not pooling and d.chance(0.4):
        dilations = [d.integer(1, 2) if (k - 1) * 2 + 1 <= n else 1 for k, n in zip(kernel, sizes)]
        attributes["dilations"] = dilations
    if d.chance(0.7):
        attributes["strides"] = [d.integer(1, 3) for _ in range(spatial)]
    choice = d.integer(0, 4)
    if choice == 0:
        attributes["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    elif choice < 4:
        attributes["pads"] = [d.integer(0, k - 1) for k in kernel * 2]
    return kernel, attributes


def conv(d, op):
    spatial = d.pick(1, 2, 2, 2, 2, 3)
    sizes = [d.integer(4, 12) for _ in range(spatial)]
    groups, form = 1, d.integer(0, 3)
    cin, cout = d.pick(1, 3, 4, 16, 20), d.pick(1, 5, 8, 16, 24)
    if form == 0:
        groups = d.pick(2, 3, 4)
        cin, cout = groups * d.pick(1, 2, 5), groups * d.pick(1, 3, 4)
    elif form == 1:
        groups = cin = d.pick(2, 8, 16, 19)
        cout = cin * d.pick(1, 1, 2)
    kernel, attributes = window(d, spatial, sizes)
    if attributes.get("auto_pad", "VALID") != "VALID":
        attributes.pop("dilations", None)
    if groups > 1 or d.chance(0.2):
        attributes["group"] = groups
    if d.chance(0.7):
        attributes["kernel_shape"] = kernel
    inputs = [(d.values((d.integer(1, 2), cin, *sizes)), False),
              (d.values((cout, cin // groups, *kernel)), d.chance(0.8))]
    if d.chance(0.6):
        inputs.append((d.values((cout,)), d.chance(0.8)))
    return Case(op, inputs, attributes, opset(d, 7))


def pool(d, op):
    spatial = d.pick(1, 2, 2, 2, 3)
    sizes = [d.integer(4, 12) for _ in range(spatial)]
    kernel, attributes = window(d, spatial, sizes, pooling=True)
    attributes["kernel_shape"] = kernel
    version = opset(d, 7)
    if version >= 10 and attributes.get("auto_pad") is None and d.chance(0.4):
        attributes["ceil_mode"] = d.integer(0, 1)
    if op == "MaxPool" and version >= 10 and "auto_pad" not in attributes and d.chance(0.3):
        attributes["dilations"] = [2 if (k - 1) * 2 + 1 <= n else 1 for k, n in zip(kernel, sizes)]
    if op == "AveragePool" and d.chance(0.6):
        attributes["count_include_pad"] = d.integer(0, 1)
    return Case(op, [(d.values((d.integer(1, 2), d.pick(1, 3, 16, 17), *sizes)), False)], attributes, version)


def global_pool(d, op):
    spatial = d.pick(1, 2, 2, 3)
    return Case(op, [(d.values((d.integer(1, 2), d.integer(1, 17), *(d.integer(1, 9) for _ in range(spatial)))),
                      False)], {}, opset(d, 7))


def batch_normalization(d, op):
    channels = d.integer(1, 17)
    shape = (d.integer(1, 3), channels, *d.shape(0, 3))
    parameters = [d.values((channels,), low=0.2) for _ in range(4)]
    return Case(op, [(d.values(shape), False)] + [(p, d.chance(0.8)) for p in parameters],
                {"epsilon": d.pick(1e-5, 1e-3)} if d.chance(0.5) else {}, opset(d, 9))


def instance_normalization(d, op):
    channels = d.integer(1, 9)
    shape = (d.integer(1, 2), channels, *(d.integer(2, 7) for _ in range(d.integer(1, 3))))
    return Case(op, [(d.values(shape), False), (d.values((channels,)), True), (d.values((channels,)), True)],
                {"epsilon": d.pick(1e-5, 1e-3)}, opset(d, 7))


def layer_normalization(d, op):
    shape = tuple(d.integer(2, 9) for _ in range(d.integer(2, 4)))
    axis = d.integer(1, len(shape) - 1)
    inputs = [(d.values(shape), False), (d.values(shape[axis:]), True)]
    if d.chance(0.7):
        inputs.append((d.values(shape[axis:]), True))
    return Case(op, inputs, {"axis": d.pick(axis, axis - len(shape)), "epsilon": d.pick(1e-5, 1e-3)}, opset(d, 17))


def non_zero(d, op):
    return Case(op, [(d.values(d.shape(1, 4), d.pick("bool", "int64", "float32")), False)], {}, opset(d, 9))


def cum_sum(d, op):
    shape = d.shape(1, 4)
    attributes = {k: d.integer(0, 1) for k in ("exclusive", "reverse") if d.chance(0.6)}
    return Case(op, [(d.values(shape, d.pick("float32", "int64")), False),
                     (np.array(d.axis(len(shape)), np.int64), True)], attributes, opset(d, 11))


def trilu(d, op):
    inputs = [(d.values(d.shape(2, 4)), False)]
    if d.chance(0.6):
        inputs.append((np.array(d.integer(-3, 3), np.int64), True))
    return Case(op, inputs, {"upper": d.integer(0, 1)} if d.chance(0.7) else {}, opset(d, 14))


def depth_space(d, op):
    b = d.integer(1, 3)
    n, c, h, w = d.integer(1, 2), d.integer(1, 3), d.integer(1, 4), d.integer(1, 4)
    shape = (n, c * b * b, h, w) if op == "DepthToSpace" else (n, c, h * b, w * b)
    version = opset(d, 11)
    return Case(op, [(d.values(shape), False)],
                {"blocksize": b, **({"mode": d.pick("DCR", "CRD")} if op == "DepthToSpace" else {})}, version)


def recurrent(d, op):
    gates, activations = {"RNN": (1, 1), "GRU": (3, 2), "LSTM": (4, 3)}[op]
    direction = d.pick("forward", "reverse", "bidirectional")
    directions = 2 if direction == "bidirectional" else 1
    steps, batch, size, hidden = d.integer(1, 5), d.integer(1, 3), d.integer(1, 6), d.integer(1, 7)
    inputs = [(d.values((steps, batch, size)), False),
              (d.values((directions, gates * hidden, size), low=-1, high=1), constant(d)),
              (d.values((directions, gates * hidden, hidden), low=-1, high=1), constant(d)),
              (d.values((directions, 2 * gates * hidden)), constant(d)) if d.chance(0.7) else (None, False),
              (d.np.integers(1, steps + 1, batch).astype(np.int32), False) if d.chance(0.3) else (None, False)]
    for _ in range(2 if op == "LSTM" else 1):
        inputs.append((d.values((directions, batch, hidden)), False) if d.chance(0.6) else (None, False))
    if op == "LSTM" and d.chance(0.4):
        inputs.append((d.values((directions, 3 * hidden)), constant(d)))
    while inputs[-1][0] is None:
        inputs.pop()
    attributes = {"hidden_size": hidden, "direction": direction}
    if d.chance(0.4):
        names = [d.pick("Sigmoid", "Tanh", "Relu", "HardSigmoid") for _ in range(activations)] * directions
        attributes["activations"] = names
    if d.chance(0.3):
        attributes["clip"] = 1.5
    if op == "GRU" and d.chance(0.5):
        attributes["linear_before_reset"] = 1
    return Case(op, inputs, attributes, opset(d, 7), outputs=3 if op == "LSTM" else 2)


def grid_sample(d, op):
    n, c = d.integer(1, 2), d.integer(1, 3)
    sizes, out = (d.integer(2, 6), d.integer(2, 6)), (d.integer(1, 5), d.integer(1, 5))
    version = d.pick(16, 17, 18, 20, 22)
    modes = ("bilinear", "nearest", "bicubic") if version < 20 else ("linear", "nearest", "cubic")
    attributes = {"mode": d.pick(*modes), "padding_mode": d.pick("zeros", "border", "reflection"),
                  "align_corners": d.integer(0, 1)}
    return Case(op, [(d.values((n, c, *sizes)), False), (d.values((n, *out, 2), low=-1.3, high=1.3), False)], attributes,
                version)


def roi_align(d, op):
    n, regions, height, width = d.integer(1, 2), d.integer(1, 4), d.integer(4, 9), d.integer(4, 9)
    start = d.np.uniform(0, 4, (regions, 2))
    rois = np.concatenate([start, start + d.np.uniform(1, 5, (regions, 2))], 1).astype(np.float32)
    version = d.pick(10, 13, 16, 18)
    attributes = {"output_height": d.integer(1, 4), "output_width": d.integer(1, 4), "sampling_ratio": d.integer(0, 3),
                  "spatial_scale": d.pick(1.0, 0.5, 1.5)}
    if version >= 16:
        attributes["coordinate_transformation_mode"] = d.pick("half_pixel", "output_half_pixel")
    return Case(op, [(d.values((n, d.integer(1, 3), height, width)), False), (rois, False),
                     (d.np.integers(0, n, regions), False)], attributes, version)


def center_crop_pad(d, op):
    shape = d.shape(1, 4, 8)
    axes = d.py.sample(range(len(shape)), d.integer(1, len(shape)))
    target = np.array([d.integer(1, 9) for _ in axes], np.int64)
    return Case(op, [(d.values(shape, d.pick("float32", "int64")), False), (target, True)],
                {"axes": [a - len(shape) if d.chance(0.3) else a for a in axes]}, opset(d, 18))


def col2im(d, op):
    image, block = [d.integer(4, 8), d.integer(4, 8)], [d.integer(1, 3), d.integer(1, 3)]
    strides, dilations = [d.integer(1, 2) for _ in image], [d.integer(1, 2) if b < 3 else 1 for b in block]
    pads = [d.integer(0, 1) for _ in range(4)]
    count = 1
    for i in range(2):
        count *= (image[i] + pads[i] + pads[i + 2] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
    x = d.values((d.integer(1, 2), d.integer(1, 3) * block[0] * block[1], count))
    return Case(op, [(x, False), (np.array(image, np.int64), True), (np.array(block, np.int64), True)],
                {"strides": strides, "dilations": dilations, "pads": pads}, opset(d, 18))


def dft(d, op):
    length = d.integer(2, 20)
    inverse = d.integer(0, 1)
    onesided = 0 if inverse else d.integer(0, 1)
    parts = 1 if onesided else d.pick(1, 2)
    x = d.values((d.integer(1, 3), length, parts), d.pick("float32", "float64"))
    inputs = [(x, False)]
    if d.chance(0.4):
        inputs.append((np.array(d.integer(2, 24), np.int64), True))
    return Case(op, inputs, {"axis": 1, "inverse": inverse, "onesided": onesided}, d.pick(17, 18, 19))


def signal_window(d, op):
    return Case(op, [(np.array(d.integer(2, 40), np.int64), d.chance(0.7))],
                {"periodic": d.integer(0, 1)} if d.chance(0.7) else {}, opset(d, 17))


def det(d, op):
    size = d.integer(1, 5)
    return Case(op, [(d.values((*d.shape(0, 2, 3), size, size)), False)], {}, opset(d, 11))


def non_max_suppression(d, op):
    batch, classes, count = d.integer(1, 2), d.integer(1, 3), d.integer(1, 12)
    corner = d.np.uniform(0, 8, (batch, count, 2))
    boxes = np.concatenate([corner, corner + d.np.uniform(0.5, 6, (batch, count, 2))], 2).astype(np.float32)
    scores = d.np.permutation(batch * classes * count).reshape(batch, classes, count).astype(np.float32) / 100
    inputs = [(boxes, False), (scores, False), (np.array([d.integer(0, 8)], np.int64), d.chance(0.5)),
              (np.array([d.np.uniform(0.1, 0.8)], np.float32), d.chance(0.5))]
    if d.chance(0.6):
        inputs.append((np.array([d.np.uniform(0, 0.3)], np.float32), d.chance(0.5)))
    return Case(op, inputs, {"center_point_box": d.integer(0, 1)} if d.chance(0.6) else {}, opset(d, 10))


def unique(d, op):
    shape = d.shape(1, 3, 5)
    attributes = {"sorted": d.integer(0, 1)} if d.chance(0.8) else {}
    if d.chance(0.6):
        attributes["axis"] = d.axis(len(shape))
    return Case(op, [(d.np.integers(-2, 2, shape).astype(d.pick("float32", "int64")), False)], attributes, opset(d, 11), outputs=4)


def max_unpool(d, op):
    n, c, h, w, kernel = 1, d.integer(1, 2), d.integer(1, 4), d.integer(1, 4), d.integer(2, 3)
    out = (n, c, (h - 1) * kernel + kernel, (w - 1) * kernel + kernel)
    positions = d.np.permutation(int(np.prod(out)))[:n * c * h * w].reshape(n, c, h, w).astype(np.int64)
    return Case(op, [(d.values((n, c, h, w)), False), (positions, False)],
                {"kernel_shape": [kernel] * 2, "strides": [kernel] * 2}, opset(d, 9))


def scatter_elements(d, op):
    shape = d.shape(1, 3)
    axis = d.integer(0, len(shape) - 1)
    # Distinct along the axis, so that the order of writing does not matter.
    count = d.integer(1, shape[axis])
    out = [d.integer(1, s) for s in shape]
    out[axis] = count
    rows = np.stack([d.np.permutation(shape[axis])[:count] for _ in range(int(np.prod(out)) // count)])
    indices = np.moveaxis(rows.reshape([s for i, s in enumerate(out) if i != axis] + [count]), -1, axis)
    version = opset(d, 11)
    attributes = {"axis": axis}
    if version >= 18:
        attributes["reduction"] = d.pick("none", "add", "mul", "max", "min")
    return Case(op, [(d.values(shape), False), (indices.astype(np.int64), constant(d)), (d.values(tuple(out)), False)],
                attributes, version)


def gather_nd(d, op):
    shape = d.shape(1, 4, 5)
    k = d.integer(1, len(shape))
    points = d.shape(0, 2, 4)
    indices = np.stack([d.np.integers(-n, n, points) for n in shape[:k]], -1).astype(np.int64)
    return Case(op, [(d.values(shape), False), (indices, constant(d))], {}, opset(d, 11))


def top_k(d, op):
    shape = d.shape(1, 3)
    axis = d.axis(len(shape))
    x = d.np.permutation(int(np.prod(shape))).reshape(shape).astype(d.pick("float32", "int64"))
    return Case(op, [(x, False), (np.array([d.integer(1, shape[axis])], np.int64), d.chance(0.7))],
                {"axis": axis, "largest": d.integer(0, 1)}, opset(d, 11), outputs=2)


def quantize(d, op):
    shape = d.shape(1, 4)
    axis = d.integer(0, len(shape) - 1)
    per_axis = d.chance(0.4)
    size = (shape[axis],) if per_axis else ()
    type = d.pick("uint8", "int8")
    scale = d.np.uniform(0.02, 0.2, size).astype(np.float32)
    zero = d.np.integers(-5 if type == "int8" else 0, 6, size).astype(type)
    x = d.values(shape) if op == "QuantizeLinear" else d.np.integers(-20 if type == "int8" else 0, 100, shape).astype(type)
    if op == "QuantizeLinear":  # away from halves, where rounding may go either way
        steps = x / (scale.reshape([-1] + [1] * (len(shape) - axis - 1)) if per_axis else scale)
        x = np.where(np.abs(steps - np.floor(steps) - 0.5) < 0.01, 0, x).astype(np.float32)
    return Case(op, [(x, False), (scale, True), (zero, True)], {"axis": axis} if per_axis else {}, d.pick(13, 17, 21))


FAMILIES = {
    "RNN": recurrent, "GRU": recurrent, "LSTM": recurrent, "GridSample": grid_sample, "RoiAlign": roi_align,
    "CenterCropPad": center_crop_pad, "Col2Im": col2im, "DFT": dft, "HannWindow": signal_window,
    "HammingWindow": signal_window, "BlackmanWindow": signal_window, "Det": det, "MaxUnpool": max_unpool,
    "NonMaxSuppression": non_max_suppression, "Unique": unique, "ScatterElements": scatter_elements,
    "GatherND": gather_nd, "TopK": top_k, "QuantizeLinear": quantize, "DequantizeLinear": quantize,
    **{op: unary for op in UNARY}, **{op: unary_alpha for op in UNARY_ALPHA}, **{op: binary for op in BINARY},
    **{op: logic for op in LOGIC}, **{op: reduction for op in REDUCTIONS},
    "Max": variadic, "Min": variadic, "Sum": variadic, "Mean": variadic, "Where": where, "Clip": clip, "Cast": cast,
    "ArgMax": arg_reduction, "ArgMin": arg_reduction, "Softmax": softmax, "LogSoftmax": softmax,
    "Transpose": transpose, "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": squeeze,
    "Concat": concat, "Slice": slice_, "Split": split, "Expand": expand, "Tile": tile, "Pad": pad, "Gather": gather,
    "GatherElements": gather_elements, "Shape": shape_, "ConstantOfShape": constant_of_shape, "MatMul": matmul,
    "Gemm": gemm, "Conv": conv, "MaxPool": pool, "AveragePool": pool, "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool, "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization, "LayerNormalization": layer_normalization, "NonZero": non_zero,
    "CumSum": cum_sum, "Trilu": trilu, "DepthToSpace": depth_space, "SpaceToDepth": depth_space,
}
# Operators with many attributes get more of the cases.
WEIGHTS = {"RNN": 2, "GRU": 3, "LSTM": 4, "GridSample": 3, "RoiAlign": 2, "DFT": 2, "NonMaxSuppression": 2, "Unique": 2, "Conv": 8, "MaxPool": 3, "AveragePool": 3, "MatMul": 3, "Gemm": 3, "Slice": 3, "Reshape": 2, "Concat": 2,
           "Softmax": 2, "Transpose": 2, "ReduceMean": 2, "ReduceSum": 2, "Clip": 2, "Cast": 2, "Add": 2, "Pad": 2,
           "Expand": 2, "BatchNormalization": 2}


def model_of(case):
    """The ONNX model of a case and its graph inputs by name."""
    inputs, values, initializers, feeds = [], [], [], {}
    for index, (array, fixed) in enumerate(case.inputs):
        if array is None:
            inputs.append("")
            continue
        name = f"x{index}"
        inputs.append(name)
        if fixed:
            initializers.append(numpy_helper.from_array(np.asarray(array), name))
        else:
            values.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
            feeds[name] = array
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, inputs, outputs, name=f"the_{case.op}", **case.attributes)
    graph = helper.make_graph([node], "generated", values, [helper.make_empty_tensor_value_info(o) for o in outputs],
                              initializers)
    ir = 4 if case.opset <= 9 else 7 if case.opset < 15 else 8 if case.opset < 21 else 10
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=ir)
    return onnx.shape_inference.infer_shapes(model), feeds
