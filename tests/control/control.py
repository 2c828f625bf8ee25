"""If, Loop, NonZero and folded scatters through the real program format, compared with ONNX Runtime.

    .cache/venv/bin/python tests/control/control.py [--build=DIR] [--only=PATTERN]

Small models made here: both branches of an If; a Loop that ends by its trip count, by its condition, and at once; one
whose carried values swap; scan outputs; results whose size depends on data, none and all of it included. The inputs that
decide are run-time inputs, so nothing can be folded. The scatters are the reverse: all of their operands are constants,
so aotc computes them; an index out of range is still for the run to report.
"""
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

WORK = harness.CACHE / "tests" / "control"
F = np.float32


def value(name, shape, kind=T.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "control", inputs, outputs,
                              initializer=[numpy_helper.from_array(a, n) for n, a in constants])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def branch_model():
    then = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["a"])], "then", [], [value("a", [2, 3])])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Exp", ["n"], ["b"])],
                              "else", [], [value("b", [2, 3])])
    return model([helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0), helper.make_node("Greater", ["s", "zero"], ["c"]),
                  helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
                 [value("x", [2, 3])], [value("y", [2, 3])], [("two", F(2)), ("zero", F(0))])


def doubling_model():
    """Doubles v until its sum reaches the limit or n iterations are done; every sum is a scan output."""
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "v"], ["v2"]), helper.make_node("ReduceSum", ["v2"], ["sum"], keepdims=0),
         helper.make_node("Less", ["sum", "limit"], ["go"]), helper.make_node("Identity", ["sum"], ["each"])], "body",
        [value("i", [], T.INT64), value("c", [], T.BOOL), value("v", [4])],
        [value("go", [], T.BOOL), value("v2", [4]), value("each", [])])
    return model([helper.make_node("Loop", ["n", "", "x"], ["last", "sums"], body=body)],
                 [value("n", [], T.INT64), value("x", [4]), value("limit", [])],
                 [value("last", [4]), value("sums", ["k"])])


def swapping_model():
    """Carried values pass through each other: a, b = b, a + b, and p, q = q, p."""
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Identity", ["b"], ["b1"]),
         helper.make_node("Identity", ["q"], ["q1"]), helper.make_node("Identity", ["p"], ["p1"]),
         helper.make_node("Identity", ["c"], ["c1"])], "body",
        [value("i", [], T.INT64), value("c", [], T.BOOL)] + [value(n, [1]) for n in "abpq"],
        [value("c1", [], T.BOOL)] + [value(n, [1]) for n in ("b1", "s", "q1", "p1")])
    return model([helper.make_node("Loop", ["n", "", "a0", "b0", "p0", "q0"], ["w", "x", "y", "z"], body=body)],
                 [value("n", [], T.INT64)] + [value(n, [1]) for n in ("a0", "b0", "p0", "q0")],
                 [value(n, [1]) for n in "wxyz"])


def nonzero_model():
    return model([helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Transpose", ["at"], ["t"]),
                  helper.make_node("Cast", ["t"], ["y"], to=T.FLOAT)], [value("x", [3, "w"])], [value("y", ["n", 2])])


def scatter_model(seed, at=None):
    """y = x + Scatter(constants); the kind, shapes and reduction depend on the seed, and indices repeat unless that
    leaves the result open. `at` replaces the first index."""
    rng = np.random.default_rng(seed)
    elements = bool(seed % 2)
    reduction = ("none", "add", "mul")[seed // 2 % 3]
    data = rng.standard_normal((int(rng.integers(2, 7)), int(rng.integers(1, 9)))).astype(F)
    count = int(rng.integers(1, len(data) + 1))
    rows = rng.permutation(len(data))[:count] if reduction == "none" else rng.integers(0, len(data), count)
    rows = np.where(rng.random(count) < 0.5, rows, rows - len(data)) if at is None else np.full(count, at)
    indices = np.repeat(rows[:, None], data.shape[1], 1) if elements else rows[:, None]
    updates = rng.standard_normal((count, data.shape[1])).astype(F)
    return model([helper.make_node("ScatterElements" if elements else "ScatterND", ["data", "indices", "updates"], ["s"],
                                   reduction=reduction, **({"axis": 0} if elements else {})),
                  helper.make_node("Add", ["x", "s"], ["y"])],
                 [value("x", data.shape)], [value("y", data.shape)],
                 [("data", data), ("indices", indices.astype(np.int64)), ("updates", updates)]), data.shape


def prepare(tools):
    WORK.mkdir(parents=True, exist_ok=True)
    lock, ready = threading.Lock(), {}

    def compiled(name, make):
        with lock:
            if name not in ready:
                path, archive = WORK / f"{name}.onnx", WORK / f"{name}.ingot"
                path.write_bytes(make().SerializeToString())
                status, out, err = tools.compile(path, archive)
                options = onnxruntime.SessionOptions()
                options.log_severity_level = 3
                ready[name] = (archive, status, err, onnxruntime.InferenceSession(str(path), options))
            return ready[name]

    def run(name, make, feeds, scratch):
        archive, status, err, session = compiled(name, make)
        if status != 0:
            return harness.fail(f"aotc: exit status {status}: {err}")
        names = [o.name for o in session.get_outputs()]
        expected = dict(zip(names, session.run(names, feeds)))
        outputs, status, err = tools.run(archive, feeds, names, scratch)
        if outputs is None:
            return harness.fail(f"ingot run: exit status {status}: {err}")
        for output, reference in expected.items():
            wrong = harness.agrees(outputs[output], reference, proves=False)
            if wrong:
                return harness.fail(f"{output}: {wrong}")
        return harness.ok()

    tests = {}

    def add(test, name, make, feeds):
        tests[test] = lambda scratch: run(name, make, feeds, scratch)

    rng = np.random.default_rng(5)
    add("if-then", "if", branch_model, {"x": rng.uniform(0.1, 1, (2, 3)).astype(F)})
    add("if-else", "if", branch_model, {"x": rng.uniform(-1, -0.1, (2, 3)).astype(F)})
    for trips, limit in ((9, 100), (2, 100), (0, 100), (1, 0), (40, 1e6)):
        add(f"loop-{trips}-trips-limit-{limit:g}", "loop", doubling_model,
            {"n": np.array(trips, np.int64), "x": np.ones(4, F), "limit": np.array(limit, F)})
    for trips in (0, 1, 2, 7, 10):
        add(f"swap-{trips}-trips", "swap", swapping_model,
            {"n": np.array(trips, np.int64), **{n: np.array([v], F) for n, v in
                                                 (("a0", 1), ("b0", 2), ("p0", 5), ("q0", 7))}})
    for width in (1, 5, 17):
        for name, x in (("some", rng.random((3, width)) > 0.5), ("none", np.zeros((3, width))), ("all", np.ones((3, width)))):
            add(f"nonzero-{name}-{width}", "nonzero", nonzero_model, {"x": np.asarray(x, F)})
    for seed in range(12):
        shape = scatter_model(seed)[1]
        add(f"folded-scatter-{seed}", f"scatter-{seed}", lambda s=seed: scatter_model(s)[0],
            {"x": rng.standard_normal(shape).astype(F)})

    def out_of_range(scratch):
        made, shape = scatter_model(1, at=1000)
        path, archive = scratch / "m.onnx", scratch / "m.ingot"
        path.write_bytes(made.SerializeToString())
        status, out, err = tools.compile(path, archive)
        if status != 0:
            return harness.fail(f"aotc: exit status {status}: {err}")
        outputs, status, err = tools.run(archive, {"x": np.zeros(shape, F)}, ["y"], scratch)
        if outputs is not None or "index" not in err:
            return harness.fail(f"ingot run: exit status {status}: {err or 'no error'}")
        return harness.ok(err)

    tests["folded-scatter-out-of-range"] = out_of_range
    return tests, harness.hash_of(pathlib.Path(__file__))


if __name__ == "__main__":
    harness.run_suite("control", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
