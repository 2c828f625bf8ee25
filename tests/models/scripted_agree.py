"""Models whose control flow torch.jit.script keeps (export_scripted.py), at several sizes, compared with ONNX Runtime.

    .cache/venv/bin/python tests/models/scripted_agree.py [--build=DIR] [--only=PATTERN]

One archive a model and target; what decides (a sum, a convergence, a token, lengths, a trip count) comes with the inputs.
"""
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
WORK = harness.CACHE / "tests" / "scripted"
F = np.float32


def feeds():
    """{model: [inputs by name, ...]}; both ways of every decision are among them."""
    rng = np.random.default_rng(11)
    normal = lambda *shape: rng.standard_normal(shape).astype(F)
    padded = lambda batch, time: {"x": normal(batch, time, 6), "lengths": np.sort(np.append(rng.integers(1, time + 1, batch - 1), time))[::-1].copy()}
    return {
        "root": [{"x": rng.uniform(0.1, 50, n).astype(F)} for n in (2, 7, 31)],
        "branch": [{"x": (normal(n, 6) * F(scale) + F(shift)).astype(F)} for n, scale, shift in ((1, 1, 2), (3, 0.1, -0.2), (5, 2, -1), (13, 1, 1))],
        "rows": [{"x": normal(t, b, 5) * F(2)} for t, b in ((1, 1), (4, 2), (11, 3))],
        "growing": [{"x": normal(t, 4)} for t in (1, 4, 13)],
        "greedy": [{"h": normal(1, 8) * F(2), "limit": np.array([limit])} for limit in (1, 5, 9, 5)],
        "nested": [{"x": normal(size), "n": np.array(n)} for size, n in ((3, 4), (1, 1), (17, 5), (2, 2))],
        "recurrent": [padded(b, t) for b, t in ((2, 5), (1, 1), (3, 17))],
        "packed": [padded(2, t) for t in (5, 2, 17)],
    }


def compare(tools, path, target, all_feeds, scratch):
    archive = scratch / "m.ingot"
    status, _, err = tools.compile(path, archive, f"--target={target}")
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names, wanted = [o.name for o in session.get_outputs()], {i.name for i in session.get_inputs()}
    device = harness.DEVICES.get(target, "local-sync")
    shapes = []
    for case in all_feeds:
        given = {name: array for name, array in case.items() if name in wanted}
        expected = session.run(names, given)
        outputs, status, err = tools.run(archive, given, names, scratch, f"--device={device}", timeout=600)
        if outputs is None:
            return harness.fail(f"ingot run: exit status {status}: {err}")
        for name, value in zip(names, expected):
            wrong = harness.agrees(outputs[name], value, proves=value.size > 3)
            if wrong:
                return harness.fail(f"{[a.shape for a in given.values()]}: {name}: {wrong}")
        shapes.append(list(expected[0].shape))
    return harness.ok(f"{len(shapes)} inputs, first output {shapes}")


def prepare(tools):
    torch = pathlib.Path("/usr/bin/python3")
    exported, lock = {}, threading.Lock()

    def path_of(name):
        with lock: # once, by the first test that needs them
            if not exported:
                status, out, err = tools.call([torch, HERE / "export_scripted.py", WORK], timeout=300)
                exported["error"] = "" if status == 0 else f"export_scripted.py: exit status {status}: {(err or out)[-300:]}"
        return WORK / f"{name}.onnx"

    status, out, _ = tools.call([tools.ingot, "list-devices", "vulkan"])
    targets = ["llvm-cpu", "vmvx"] + (["vulkan"] if status == 0 and out.strip() else [])
    tests = {}
    for name, cases in feeds().items():
        for target in targets:
            def test(scratch, name=name, cases=cases, target=target):
                path = path_of(name)
                return harness.fail(exported["error"]) if exported["error"] else compare(tools, path, target, cases, scratch)
            tests[f"{name}-{target}"] = test
    return tests, harness.hash_of(HERE / "scripted_agree.py", HERE / "export_scripted.py", harness.versions()["ONNXRUNTIME_VERSION"])


if __name__ == "__main__":
    harness.run_suite("scripted", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
