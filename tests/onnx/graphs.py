"""200 random graphs over all operators that node_generator.py knows, seeded, compared with ONNX Runtime.

    .cache/venv/bin/python tests/onnx/graphs.py [--build=DIR] [--only='012*'] [--full | --share=N]

A graph has two inputs of free dims and six to fourteen nodes, each drawn as a case of its operator. Its operands come from
values made before: flattened, picked from by constant indices, reshaped, and taken into the operator's range by a sigmoid
(floats), a remainder (integers) or a comparison (bool), so that every graph is valid and no value grows without bound. One
in five nodes stands in a branch of an If whose condition is computed, and one in ten in a Loop.
"""
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import generated
import harness
import node_generator
import numpy as np
import onnx
import onnxruntime
import suite
from onnx import TensorProto as T
from onnx import helper, numpy_helper

COUNT = 200
SEED = 20261126
OPSETS = (13, 15, 17, 18, 21)
# Their results hang on the last bit of a float: which of two equal scores is first, where a value is cut.
UNSTABLE = {"NonMaxSuppression", "Unique", "QuantizeLinear", "Round", "Floor", "Ceil", "Sign", "ArgMax", "ArgMin", "TopK",
            "GridSample", "RoiAlign", "MaxUnpool", "Det", "DequantizeLinear"}


def kind_of(array):
    return helper.np_dtype_to_tensor_dtype(array.dtype)


class Graph:
    def __init__(self, seed, table):
        self.rng = random.Random(f"{SEED}-{seed}")
        self.version = self.rng.choice(OPSETS)
        self.operators = sorted(op for op in node_generator.FAMILIES if ("", op) in table)
        self.nodes, self.weights, self.feeds, self.values, self.made = [], [], {}, {}, []
        numbers = np.random.default_rng(self.rng.getrandbits(32))
        for i in range(2):
            self.feeds[f"x{i}"] = numbers.uniform(-2, 2, (self.rng.randint(1, 6), self.rng.randint(1, 9))).astype(np.float32)
            self.values[f"x{i}"] = self.feeds[f"x{i}"]

    def name(self, prefix):
        self.made.append(prefix)
        return f"{prefix}_{len(self.made)}"

    def weight(self, array):
        name = self.name("w")
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, nodes, count=1, **attributes):
        outputs = [self.name(op.lower()) for _ in range(count)]
        nodes.append(helper.make_node(op, inputs, outputs, name=self.name("n"), **attributes))
        return outputs

    def operand(self, array, nodes):
        """A value of the dims and type of `array`, within its range, made of one that is known."""
        source = self.rng.choice(sorted(self.values))
        known = self.values[source]
        count = int(np.prod(array.shape))
        picks = np.array([self.rng.randrange(known.size) for _ in range(count)], np.int64)
        flat = self.node("Reshape", [source, self.weight(np.array([-1], np.int64))], nodes)[0]
        if known.dtype != np.float32:
            flat = self.node("Cast", [flat], nodes, to=T.FLOAT)[0]
        x = self.node("Gather", [flat, self.weight(picks)], nodes, axis=0)[0]
        x = self.node("Reshape", [x, self.weight(np.array(array.shape, np.int64))], nodes)[0]
        # Spread, so that equal values become different ones.
        x = self.node("Add", [x, self.weight(np.random.default_rng(count).uniform(-1, 1, array.shape).astype(np.float32))], nodes)[0]
        if array.dtype == bool:
            return self.node("Greater", [x, self.weight(np.float32(0.123))], nodes)[0]
        low, high = float(array.min()), float(array.max())
        if array.dtype.kind == "f":
            x = self.node("Sigmoid", [x], nodes)[0]
            x = self.node("Add", [self.node("Mul", [x, self.weight(np.float32(high - low))], nodes)[0], self.weight(np.float32(low))], nodes)[0]
            return x if array.dtype == np.float32 else self.node("Cast", [x], nodes, to=kind_of(array))[0]
        x = self.node("Cast", [self.node("Mul", [self.node("Sigmoid", [x], nodes)[0], self.weight(np.float32(high - low + 0.99))], nodes)[0]], nodes, to=T.INT64)[0]
        x = self.node("Add", [x, self.weight(np.int64(low))], nodes)[0]
        return x if array.dtype == np.int64 else self.node("Cast", [x], nodes, to=kind_of(array))[0]

    def draw(self):
        """A case of an operator at the graph's opset, with a reference that runs."""
        while True:
            operator = self.rng.choice(self.operators)
            case = node_generator.FAMILIES[operator](node_generator.Draw(str(self.rng.random())), operator)
            case.opset = self.version
            try:
                model, feeds = node_generator.model_of(case)
                generated.reference(model, feeds)
            except Exception:
                continue
            if any(a is not None and (a.size == 0 or a.dtype.kind not in "fiub" or a.dtype == np.float16) for a, _ in case.inputs):
                continue
            return case

    def add(self):
        case = self.draw()
        nodes, inner, inputs = [], [], []
        for array, fixed in case.inputs:
            if array is None:
                inputs.append("")
            elif fixed or case.op in UNSTABLE or (array.dtype.kind in "iu" and array.ndim <= 1):
                inputs.append(self.weight(array))  # indices, axes, shapes
            else:
                inputs.append(self.operand(np.asarray(array), nodes))
        outputs = self.node(case.op, inputs, inner, case.outputs, **case.attributes)
        found = self.evaluate([*nodes, *inner], outputs)
        if found is None:
            return
        if any(v.dtype.kind == "f" and not np.isfinite(v).all() for v in found) or all(v.size == 0 for v in found):
            return
        wrap = self.rng.random()
        if wrap < 0.3 and len(outputs) == 1:
            outputs = self.branch(nodes, inner, outputs, found) if wrap < 0.2 else self.loop(nodes, inner, outputs, found)
            found = self.evaluate(nodes, outputs)
            if found is None:
                return
        else:
            nodes += inner
        self.nodes += nodes
        self.values.update((n, v) for n, v in zip(outputs, found) if v.size)

    def branch(self, nodes, inner, outputs, found):
        """inner in the then-branch, a constant in the other; the condition is computed."""
        condition = self.node("Squeeze", [self.operand(np.zeros(1, bool), nodes)], nodes)[0]
        info = helper.make_tensor_value_info
        other = self.name("other")
        constant = helper.make_node("Constant", [], [other], value=numpy_helper.from_array(np.ones_like(found[0])))
        rank = [None] * found[0].ndim
        then = helper.make_graph(inner, self.name("then"), [], [info(outputs[0], kind_of(found[0]), rank)])
        otherwise = helper.make_graph([constant], self.name("else"), [], [info(other, kind_of(found[0]), rank)])
        return self.node("If", [condition], nodes, then_branch=then, else_branch=otherwise)

    def loop(self, nodes, inner, outputs, found):
        """inner in each of a few iterations, stacked."""
        trips = self.node("Cast", [self.operand(np.array([1, 3], np.int64)[self.rng.randrange(2):][:1], nodes)], nodes, to=T.INT64)[0]
        trips = self.node("Squeeze", [trips], nodes)[0]
        i, c, go = self.name("i"), self.name("c"), self.name("go")
        info = helper.make_tensor_value_info
        body = helper.make_graph([helper.make_node("Identity", [c], [go]), *inner], self.name("body"), [info(i, T.INT64, []), info(c, T.BOOL, [])],
                                 [info(go, T.BOOL, []), info(outputs[0], kind_of(found[0]), [None] * found[0].ndim)])
        return self.node("Loop", [trips, ""], nodes, body=body)

    def model(self, nodes, outputs):
        inputs = [helper.make_tensor_value_info(n, T.FLOAT, [f"{n}_a", f"{n}_b"]) for n in self.feeds]
        known = {output for node in nodes for output in node.output}
        graph = helper.make_graph(nodes, "random", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs if o in known],
                                  self.weights)
        ir = 7 if self.version < 15 else 8 if self.version < 21 else 10
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.version)], ir_version=ir)
        return onnx.shape_inference.infer_shapes(model)

    def evaluate(self, nodes, outputs):
        try:
            found = generated.reference(self.model([*self.nodes, *nodes], outputs), self.feeds)
            return [np.asarray(found[o]) for o in outputs]
        except Exception:
            return None


def one_test(tools, index, table, scratch):
    graph = Graph(index, table)
    for _ in range(graph.rng.randint(6, 14)):
        graph.add()
    used = {i for n in graph.nodes for i in n.input} | {i for n in graph.nodes for a in n.attribute if a.HasField("g") for m in a.g.node for i in m.input}
    outputs = [n for n in graph.values if n not in used and n not in graph.feeds][:8]
    if not outputs:
        return harness.ok("no node has a result")
    model = graph.model(graph.nodes, outputs)
    expected = generated.reference(model, graph.feeds)
    path = scratch / "model.onnx"
    path.write_bytes(model.SerializeToString())
    status, out, err = tools.compile(path, scratch / "model.ingot", *([] if index % 2 else ["--target=llvm-cpu:host"]))
    if status == 1 and "hint" in err:
        return harness.refused(err)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    found, status, err = tools.run(scratch / "model.ingot", graph.feeds, list(expected), scratch)
    operators = " ".join(n.op_type for n in graph.nodes if n.op_type not in ("Gather", "Reshape", "Cast", "Add", "Mul", "Sigmoid"))
    if found is None:
        return harness.fail(f"ingot run: exit status {status}: {err} [{operators}]")
    for name, value in expected.items():
        relative, of_peak = 1e-3, 1e-4  # f64 too: what it is made of came through f32
        wrong = harness.agrees(found[name], np.asarray(value), relative, of_peak, proves=False)
        if wrong:
            return harness.fail(f"{name}: {wrong} [{operators}]")
    return harness.ok()


def prepare(tools):
    table = suite.supported_operators(tools)
    tests = {f"{i:03}": lambda scratch, i=i: one_test(tools, i, table, scratch) for i in range(COUNT)}
    here = pathlib.Path(__file__)
    return tests, harness.hash_of(here, here.parent / "node_generator.py", onnx.__version__, onnxruntime.__version__, np.__version__,
                                  sorted(op for op in node_generator.FAMILIES if ("", op) in table))


if __name__ == "__main__":
    harness.run_suite("onnx-graphs", prepare, lambda: {"onnx": onnx.__version__, "numpy": np.__version__,
                                                       "onnxruntime": onnxruntime.__version__})
