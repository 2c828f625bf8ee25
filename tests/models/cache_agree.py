"""States that grow in place (aotc --state): what a step adds is all it writes, and the results are those of growing copies.

    .cache/venv/bin/python tests/models/cache_agree.py [--build=DIR] [--only=PATTERN]

The references are ONNX Runtime's, which gets and gives the whole cache at each step. A GPT-2-like decoder runs tokens one by
one from an empty cache; small models add several positions at once, along an axis that is not the last but one, of
integers, or in two functions of one archive that share the state. Counted: copies, dispatches, and allocations over all steps.
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import catalogue
import harness
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
F = np.float32
DEVICES = {"llvm-cpu": ["local-sync", "local-task://0?threads=2"], "vmvx": ["local-sync"], "vulkan": [harness.DEVICES["vulkan"]]}


def small(kind, axis, most, twice=False):
    """Sums over a cache of rows that grows along `axis`, beside the cache of before; what is added is computed."""
    element, dtype = (T.FLOAT, np.float32) if kind == "f32" else (T.INT64, np.int64)
    past, new = [2, 3, 4], [2, 3, 4]
    past[axis], new[axis] = "past", "new"
    nodes = [helper.make_node("Mul", ["x", "two"], ["x2"]), helper.make_node("Concat", ["past", "x2"], ["present"], axis=axis),
             helper.make_node("ReduceSum", ["present", "axes"], ["sum"], keepdims=0),
             helper.make_node("ReduceSum", ["past", "axes"], ["before"], keepdims=0), helper.make_node("Identity", ["present"], ["all"])]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "small", [info("x", element, new), info("past", element, past)],
                              [info("sum", element, None), info("before", element, None), info("present", element, None), info("all", element, None)],
                              initializer=[numpy_helper.from_array(np.array(2, dtype), "two"), numpy_helper.from_array(np.array([axis], np.int64), "axes")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shape = lambda name, dims, n: f"--input-shape={name}=" + "x".join(f"0..{n}" if isinstance(d, str) else str(d) for d in dims)
    return made, [shape("past", past, most), shape("x", new, 5).replace("0..", "1.."), "--state=past:present"], dtype


def reference(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def chain(session, steps, caches):
    """The outputs of each step by name, the caches passed on: {input: (output, its first value)}."""
    held, names, results = {i: first for i, (_, first) in caches.items()}, [o.name for o in session.get_outputs()], []
    for feeds in steps:
        results.append(dict(zip(names, session.run(names, {**feeds, **held}))))
        held = {i: results[-1][output] for i, (output, _) in caches.items()}
    return results


def run_steps(tools, archive, device, steps, scratch, entries=None):
    """(lines of run_sizes, error): each step once, on one context."""
    folders = []
    for i, feeds in enumerate(steps):
        folder = scratch / f"{device.partition(':')[0]}{i}"
        folder.mkdir()
        for k, array in enumerate(feeds.values()):
            np.save(folder / f"in{k}.npy", array)
        folders.append(folder)
    given = [f"{entries[i]}@{f}" if entries else f for i, f in enumerate(folders)]
    status, out, err = tools.call([tools.build / "tests/models/run_sizes", archive, device, "--runs=0", *given], timeout=1200)
    return folders, [json.loads(line) for line in out.splitlines()], "" if status == 0 else f"run_sizes: exit status {status}: {err}"


def compare(tools, archive, target, steps, expected, outputs, scratch, entries=None):
    for device in DEVICES[target]:
        folders, lines, error = run_steps(tools, archive, device, steps, scratch, entries)
        if error:
            return harness.fail(error)
        for i, (folder, results) in enumerate(zip(folders, expected)):
            for k, name in enumerate(outputs):
                wrong = harness.agrees(np.load(folder / f"out{k}.npy"), results[name], proves=results[name].size > 1 and i > 0)
                if wrong:
                    return harness.fail(f"{device}: step {i}: {name}: {wrong}")
        allocations = sum(line["first_allocations"] for line in lines[1:])
        if allocations > 2 * len(lines) ** 0.5 + 8:
            return harness.fail(f"{device}: {allocations} allocations in {len(lines) - 1} steps")
    return None


def counts(tools, archive):
    """The counts of the archive's first function, and the bytes of its states."""
    status, out, err = tools.call([tools.ingot, "inspect", "--json", archive])
    if status != 0:
        raise RuntimeError(f"inspect: exit status {status}: {err}")
    function = json.loads(out)["variants"][0]["functions"][0]
    return function["counts"], function["memory"]["slots"].get("state", {}).get("bytes_at_maximum", 0)


def gpt2(tools, target, count, scratch):
    model = catalogue.MODELS["gpt2_step"]
    shapes = [f"--input-shape=past_{part}_{layer}=1x8x0..1023x64" for layer in range(6) for part in ("key", "value")]
    archive, copying = scratch / "m.ingot", scratch / "copying.ingot"
    for path, flags in ((archive, ["--state=past_*:present_*"]), (copying, [])):
        status, _, err = tools.compile(model.path, path, f"--target={target}", *shapes, *flags, timeout=900)
        if status != 0:
            return harness.fail(f"aotc: exit status {status}: {err}")
    rng = np.random.default_rng(harness.daily_share(10**6))
    steps = [{"ids": rng.integers(0, 16384, (1, 1))} for _ in range(count)]
    caches = {f"past_{part}_{layer}": (f"present_{part}_{layer}", np.zeros((1, 8, 0, 64), F)) for layer in range(6) for part in ("key", "value")}
    wrong = compare(tools, archive, target, steps, chain(reference(model.path), steps, caches), ["logits"], scratch)
    if wrong:
        return wrong
    (growing, state), (whole, _) = counts(tools, archive), counts(tools, copying)
    if growing["copies"] or growing["dispatches"] > whole["dispatches"] + 1 or state != 12 * 8 * 1024 * 64 * 4 + 8:
        return harness.fail(f"{growing['copies']} copies, {growing['dispatches']} dispatches ({whole['dispatches']} with a cache that is copied), "
                            f"{state} bytes of state")
    return harness.ok(f"{count} steps, {growing['dispatches']} dispatches, no copies")


def some(tools, target, kind, axis, scratch):
    made, flags, dtype = small(kind, axis, 20)
    path, archive = scratch / "m.onnx", scratch / "m.ingot"
    onnx.save(made, path)
    status, _, err = tools.compile(path, archive, f"--target={target}", *flags)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    rng = np.random.default_rng(3)
    shape, steps = [2, 3, 4], []
    for new in (3, 1, 1, 5, 2, 1, 5, 4):
        shape[axis] = new
        steps.append({"x": rng.integers(-9, 9, shape).astype(dtype)})
    shape[axis] = 0
    results = chain(reference(path), steps, {"past": ("present", np.zeros(shape, dtype))})
    wrong = compare(tools, archive, target, steps, results, ["sum", "before", "all"], scratch)
    if wrong:
        return wrong
    # 22 positions are there: more than 20 before a run is refused, and says what to do
    _, _, error = run_steps(tools, archive, DEVICES[target][0], steps + steps[:1], scratch_of(scratch, "full"))
    return harness.ok() if "states are full" in error and "reset" in error else harness.fail(f"a full state: {error or 'no error'}")


def branches(tools, target, scratch):
    """States that were read are written back: two ways on from one point. Nonsense in their place is an error, no more."""
    made, flags, dtype = small("f32", 1, 20)
    path, archive, kept, nonsense = (scratch / name for name in ("m.onnx", "m.ingot", "kept", "nonsense"))
    onnx.save(made, path)
    status, _, err = tools.compile(path, archive, f"--target={target}", *flags)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    rng, session, none = np.random.default_rng(5), reference(path), {"past": ("present", np.zeros((2, 0, 4), dtype))}
    start, one, other = ({"x": rng.standard_normal((2, n, 4)).astype(dtype)} for n in (3, 1, 4))
    steps, results = [start, one, other], [*chain(session, [start, one], none), chain(session, [start, other], none)[1]]
    folders = [scratch / str(i) for i in range(3)]
    for folder, feeds in zip(folders, steps):
        folder.mkdir()
        np.save(folder / "in0.npy", feeds["x"])
    for device in DEVICES[target]:
        call = lambda *what: tools.call([tools.build / "tests/models/run_sizes", archive, device, "--runs=0", *what], timeout=1200)
        status, out, err = call(folders[0], f"save:{kept}", folders[1], f"load:{kept}", folders[2])
        if status != 0:
            return harness.fail(f"{device}: exit status {status}: {err}")
        for folder, expected in zip(folders, results):
            for k, name in enumerate(("sum", "before", "all")):
                if wrong := harness.agrees(np.load(folder / f"out{k}.npy"), expected[name], proves=name == "all"):
                    return harness.fail(f"{device}: {folder.name}: {name}: {wrong}")
        for byte in (b"\xff", b"\x7f", b"\x15"):
            nonsense.write_bytes(byte * kept.stat().st_size)
            status, _, err = call(f"load:{nonsense}", folders[0])
            if not isinstance(status, int) or status <= 0 or "INGOT_" not in err:
                return harness.fail(f"{device}: states of {byte}: exit status {status}: {err}")
        nonsense.write_bytes(b"1234567")
        status, _, err = call(f"load:{nonsense}", folders[0])
        if status <= 0 or "7 bytes for states of" not in err:
            return harness.fail(f"{device}: too few bytes: exit status {status}: {err}")
    return harness.ok()


def scratch_of(scratch, name):
    (scratch / name).mkdir()
    return scratch / name


def shared(tools, target, scratch):
    """A prompt and single steps as two functions, each with its own shape, over one state."""
    made, flags, dtype = small("f32", 1, 20)
    path, archive = scratch / "m.onnx", scratch / "m.ingot"
    onnx.save(made, path)
    status, _, err = tools.compile(path, archive, path, "--entry=prompt", "--entry=step", f"--target={target}", *flags)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    rng = np.random.default_rng(4)
    steps = [{"x": rng.standard_normal((2, n, 4)).astype(dtype)} for n in (5, 1, 1, 4, 1)]
    results = chain(reference(path), steps, {"past": ("present", np.zeros((2, 0, 4), dtype))})
    wrong = compare(tools, archive, target, steps, results, ["sum", "before", "all"], scratch, ["prompt", "step", "step", "prompt", "step"])
    return wrong or harness.ok()


def refusals(tools, scratch):
    """Wrong uses end with what to do, and write nothing."""
    made, flags, _ = small("f32", 1, 20)
    path, archive = scratch / "m.onnx", scratch / "m.ingot"
    onnx.save(made, path)
    for given, words in ((["--state=past"], "INPUT:OUTPUT"), (["--state=pas*:present"], "at most one '*'"), (["--state=nothing:present"], "no input"),
                         (["--state=past:nothing"], "no output"), (["--state=past:sum"], "with more behind it"), (["--state=x:present"], "with more behind it"),
                         (["--state=past:present", "--state=past:all"], "twice"),
                         (["--state=past:present", "--input-shape=past=2x?x4"], "no bound")):
        shapes = [] if any(g.startswith("--input-shape") for g in given) else flags[:-1]
        status, _, err = tools.compile(path, archive, *shapes, *given)
        if status == 0 or words not in err or archive.exists():
            return harness.fail(f"{given}: exit status {status}: {err}")
    other = scratch / "other.onnx"
    onnx.save(small("i64", 1, 20)[0], other)
    status, _, err = tools.compile(path, archive, other, "--entry=prompt", "--entry=step", *flags)
    if status == 0 or not ("other.onnx" in err and "state 'past' is i64" in err and "f32" in err and "another model" in err) or archive.exists():
        return harness.fail(f"a state of two types: exit status {status}: {err}")
    return harness.ok()


def prepare(tools):
    status, out, _ = tools.call([tools.ingot, "list-devices", "vulkan"])
    targets = ["llvm-cpu", "vmvx"] + (["vulkan"] if status == 0 and out.strip() else [])
    tests = {"refusals": lambda scratch: refusals(tools, scratch)}
    for target in targets:
        tests[f"gpt2-{target}"] = lambda scratch, t=target: gpt2(tools, t, {"llvm-cpu": 60, "vmvx": 12, "vulkan": 5}[t], scratch)
        for kind, axis in (("f32", 1), ("f32", 0), ("f32", 2), ("i64", 1)):
            tests[f"{kind}-axis-{axis}-{target}"] = lambda scratch, t=target, k=kind, a=axis: some(tools, t, k, a, scratch)
        tests[f"branches-{target}"] = lambda scratch, t=target: branches(tools, t, scratch)
        tests[f"shared-{target}"] = lambda scratch, t=target: shared(tools, t, scratch)
    return tests, harness.hash_of(HERE / "cache_agree.py", harness.versions()["ONNXRUNTIME_VERSION"])


if __name__ == "__main__":
    harness.run_suite("cache", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
