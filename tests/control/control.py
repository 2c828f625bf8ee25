"""If, Loop, NonZero and folded scatters through the real program format, compared with ONNX Runtime.

    .cache/venv/bin/python tests/control/control.py [--build=DIR] [--only=PATTERN] [--vulkan]

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
    """`shape` None: of unknown dims; all carried values here are lists."""
    shape = [None] if shape is None else shape
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


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def graph(name, nodes, outputs, inputs=()):
    return helper.make_graph(nodes, name, list(inputs), outputs)


def positives(x, out, prefix):
    """Nodes: the elements of x[w] above 0, as out[n]."""
    return [node("Greater", f"{x} zero", f"{prefix}_p"), node("Compress", f"{x} {prefix}_p", out)]


ZERO_ONE = [("zero", F(0)), ("one", F(1)), ("axis0", np.array([0], np.int64)), ("big", F(100)), ("i1", np.array([1], np.int64))]


def chosen_model():
    """Sizes that only a branch knows: the positives of x, or x twice; what follows uses them."""
    then = graph("then", positives("x", "a", "t"), [value("a", ["n"])])
    other = graph("else", [node("Concat", "x x", "b", axis=0)], [value("b", ["m"])])
    return model([node("ReduceMax", "x", "s", keepdims=0), node("Greater", "s one", "c"),
                  node("If", "c", "v", then_branch=then, else_branch=other), node("Neg", "v", "y"),
                  node("Concat", "y x", "z", axis=0)],
                 [value("x", ["w"])], [value("y", ["k"]), value("z", ["l"])], ZERO_ONE)


def nested_model():
    """A branch in a branch; three sizes, and two results with sizes of their own."""
    inner_then = graph("inner_then", positives("x", "p", "i"), [value("p", ["n"])])
    inner_else = graph("inner_else", [node("Slice", "x axis0 i1", "q")], [value("q", ["m"])])
    then = graph("then", [node("ReduceMin", "x", "low", keepdims=0), node("Less", "low zero", "d"),
                          node("If", "d", "a", then_branch=inner_then, else_branch=inner_else),
                          node("NonZero", "x", "at"), node("Cast", "at", "a2", to=T.FLOAT)],
                 [value("a", ["n"]), value("a2", [1, "nz"])])
    other = graph("else", [node("Concat", "x x x", "b", axis=0), node("Unsqueeze", "x axis0", "b2")],
                  [value("b", ["m"]), value("b2", [1, "w"])])
    return model([node("ReduceMax", "x", "s", keepdims=0), node("Greater", "s one", "c"),
                  node("If", "c", "v v2", then_branch=then, else_branch=other), node("Exp", "v", "y"), node("Abs", "v2", "y2")],
                 [value("x", ["w"])], [value("y", ["k"]), value("y2", [1, "k2"])], ZERO_ONE)


def ranks_model():
    """One branch gives a row, the other a number: what follows is computed in both."""
    then = graph("then", [node("Identity", "x", "a")], [value("a", ["w"])])
    other = graph("else", [node("ReduceMin", "x", "b", keepdims=0)], [value("b", [])])
    return model([node("ReduceMax", "x", "s", keepdims=0), node("Greater", "s one", "c"),
                  helper.make_node("If", ["c"], ["v"], then_branch=then, else_branch=other),
                  node("Mul", "v x", "m"), node("Add", "m one", "y"), node("ReduceSum", "m", "t", keepdims=0)],
                 [value("x", ["w"])], [value("y", ["w"]), value("t", [])], ZERO_ONE)


def growing_model():
    """A carried value that starts empty and grows by what each iteration selects; one of an unknown part of it is stacked."""
    body = graph("body", [node("Cast", "i", "f", to=T.FLOAT), node("Sub", "x f", "d"), *positives("d", "new", "b"),
                          node("Concat", "v new", "v2", axis=0), node("Identity", "c", "c2"),
                          *positives("x", "each", "e")],
                 [value("c2", [], T.BOOL), value("v2", None), value("each", None)],
                 [value("i", [], T.INT64), value("c", [], T.BOOL), value("v", None)])
    return model([node("Slice", "x axis0 axis0", "empty"),
                  helper.make_node("Loop", ["n", "", "empty"], ["last", "all"], body=body), node("Abs", "last", "y")],
                 [value("n", [], T.INT64), value("x", ["w"])], [value("y", ["k"]), value("all", ["n", "m"])], ZERO_ONE)


def while_model():
    """No trip count: as many scan outputs as it takes."""
    body = graph("body", [node("Add", "v v", "v2"), node("ReduceSum", "v2", "sum", keepdims=0), node("Less", "sum big", "go"),
                          node("Neg", "v2", "each")],
                 [value("go", [], T.BOOL), value("v2", ["w"]), value("each", ["w"])],
                 [value("i", [], T.INT64), value("c", [], T.BOOL), value("v", ["w"])])
    return model([node("ReduceSum", "x", "s", keepdims=0), node("Less", "s big", "c"),
                  helper.make_node("Loop", ["", "c", "x"], ["last", "all"], body=body)],
                 [value("x", ["w"])], [value("last", ["w"]), value("all", ["k", "w"])], ZERO_ONE)


def nested_loop_model():
    """A growing loop inside a loop, whose result is reduced, and a branch of unknown size inside it."""
    then = graph("then", positives("u", "p", "t"), [value("p", None)])
    other = graph("else", [node("Concat", "u x", "q", axis=0)], [value("q", None)])
    inner = graph("inner", [node("Cast", "j", "jf", to=T.FLOAT), node("Sub", "u jf", "us"), node("ReduceSum", "us", "s", keepdims=0),
                            node("Greater", "s zero", "big_enough"),
                            helper.make_node("If", ["big_enough"], ["u2"], then_branch=then, else_branch=other), node("Identity", "cj", "cj2")],
                  [value("cj2", [], T.BOOL), value("u2", None)],
                  [value("j", [], T.INT64), value("cj", [], T.BOOL), value("u", None)])
    body = graph("body", [helper.make_node("Loop", ["n", "", "v"], ["grown"], body=inner), node("ReduceSum", "grown", "sum", keepdims=1),
                          node("Concat", "v sum", "v2", axis=0), node("Identity", "c", "c2")],
                 [value("c2", [], T.BOOL), value("v2", None)],
                 [value("i", [], T.INT64), value("c", [], T.BOOL), value("v", None)])
    return model([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
                 [value("n", [], T.INT64), value("x", ["w"])], [value("y", ["k"])], ZERO_ONE)


def distinct_model():
    """Unique and NonMaxSuppression inside branches."""
    then = graph("then", [node("Unique", "x", "u")], [value("u", ["n"])])
    other = graph("else", [node("NonMaxSuppression", "boxes scores i10 half", "at"), node("Cast", "at", "atf", to=T.FLOAT),
                           node("Reshape", "atf minus", "b")], [value("b", ["m"])])
    return model([node("ReduceMax", "x", "s", keepdims=0), node("Greater", "s one", "c"),
                  node("Reshape", "x boxes_shape", "boxes"), node("ReduceMean", "boxes", "mean", axes=[2], keepdims=0),
                  node("Unsqueeze", "mean i1", "scores"),
                  node("If", "c", "v", then_branch=then, else_branch=other), node("Neg", "v", "y")],
                 [value("x", ["w"])], [value("y", ["k"])],
                 ZERO_ONE + [("boxes_shape", np.array([1, -1, 4], np.int64)), ("i10", np.array([10], np.int64)), ("half", np.array([0.5], F)),
                             ("minus", np.array([-1], np.int64))])


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
    on_vulkan = tools.device is not None and tools.device.startswith("vulkan")
    flags = ["--target=vulkan"] if on_vulkan else []

    def compiled(name, make):
        with lock:
            if name not in ready:
                path, archive = WORK / f"{name}.onnx", WORK / f"{name}.ingot"
                path.write_bytes(make().SerializeToString())
                status, out, err = tools.compile(path, archive, *flags)
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
    for width in (1, 5, 16, 23):
        for name, x in (("some", rng.uniform(-2, 3, width)), ("small", rng.uniform(-1, 0.9, width)), ("none", -np.ones(width)),
                        ("all", rng.uniform(1.5, 2, width))):
            for made in (chosen_model, nested_model, ranks_model):
                add(f"{made.__name__.removesuffix('_model')}-{name}-{width}", made.__name__, made, {"x": x.astype(F)})
        if width % 4 == 0:
            for factor in (0.5, 2):
                add(f"distinct-{width}-{factor}", "distinct", distinct_model, {"x": (np.round(rng.uniform(0, factor, width), 1)).astype(F)})
        for trips in (1, 3, 4):
            add(f"growing-{trips}-{width}", "growing", growing_model, {"n": np.array(trips, np.int64), "x": rng.uniform(-1, 4, width).astype(F)})
            add(f"nested-loop-{trips}-{width}", "nested-loop", nested_loop_model, {"n": np.array(trips, np.int64), "x": rng.uniform(-1, 1, width).astype(F)})
        for scale in (0.001, 1, 4):
            add(f"while-{scale}-{width}", "while", while_model, {"x": np.full(width, scale, F) + np.arange(width, dtype=F) * F(0.001)})
    for seed in range(12):
        shape = scatter_model(seed)[1]
        add(f"folded-scatter-{seed}", f"scatter-{seed}", lambda s=seed: scatter_model(s)[0],
            {"x": rng.standard_normal(shape).astype(F)})

    def out_of_range(scratch):
        made, shape = scatter_model(1, at=1000)
        path, archive = scratch / "m.onnx", scratch / "m.ingot"
        path.write_bytes(made.SerializeToString())
        status, out, err = tools.compile(path, archive, *flags)
        if status != 0:
            return harness.fail(f"aotc: exit status {status}: {err}")
        outputs, status, err = tools.run(archive, {"x": np.zeros(shape, F)}, ["y"], scratch)
        if outputs is not None or "index" not in err:
            return harness.fail(f"ingot run: exit status {status}: {err or 'no error'}")
        return harness.ok(err)

    tests["folded-scatter-out-of-range"] = out_of_range
    if on_vulkan: # minutes on a software device: one width
        tests = {name: test for name, test in tests.items() if name.endswith("-5") or name.startswith(("swap", "distinct-16"))}
    return tests, harness.hash_of(pathlib.Path(__file__))


if __name__ == "__main__":
    vulkan = "--vulkan" in sys.argv
    if vulkan:
        sys.argv.remove("--vulkan")
    harness.run_suite("control-vulkan" if vulkan else "control", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
