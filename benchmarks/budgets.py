"""Times against their bars: load + verify + prepare, the first run beside the steady one, compilation, and the share of
the FMA peak that a 1024 x 1024 x 1024 product of f32 matrices reaches on one thread.

    tools/setup.sh bench && .cache/venv/bin/python benchmarks/budgets.py [--build=build] [--tries=11] [--json=FILE]

Each try is a process of its own; printed are median, 10th and 90th percentile over the tries, and the bar. Exit status 1
where a median misses its bar. Run it alone on the machine.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/lib"))
import harness
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORK = harness.CACHE / "bench"
MODELS = {
    "face": (harness.MODELS / "face_detection_back_256x256_barracuda.onnx", [], {"input:0": (1, 256, 256, 3)}, "float32"),
    "magika": (harness.MODELS / "magika.onnx", ["--input-shape=bytes=1x2048"], {"bytes": (1, 2048)}, "int32"),
    "rec": (harness.MODELS / "ch_PP-OCRv4_rec_infer.onnx", ["--input-shape=x=1x3x48x320"], {"x": (1, 3, 48, 320)}, "float32"),
}
BARS = {  # figure: (unit, {model: bar})
    "load + prepare": ("ms", {"face": 2.0, "magika": 2.0}),
    "first run / steady": ("x", {"face": 1.2, "magika": 1.2, "rec": 1.2}),
    "compile": ("s", {"face": 10.0}),
}
MATMUL, MATMUL_SHARE = 1024, 0.85


def compile_once(tools, name, archive):
    path, flags, _, _ = MODELS[name]
    start = time.monotonic()
    status, out, err = tools.compile(path, archive, *flags)
    if status != 0:
        raise SystemExit(f"aotc {name}: exit status {status}: {err}")
    return time.monotonic() - start


def bench(tools, name, archive):
    _, _, shapes, type = MODELS[name]
    rng = np.random.default_rng(1)
    command = [tools.ingot, "bench", archive, "--json", "--device=local-sync", "--seconds=0.3"]
    for index, (tensor, shape) in enumerate(shapes.items()):
        path = WORK / f"budget-{name}-{index}.npy"
        np.save(path, rng.uniform(0, 200, shape).astype(type))
        command.append(f"--input={tensor}=@{path}")
    status, out, err = tools.call(command, 120)
    if status != 0:
        raise SystemExit(f"ingot bench {name}: exit status {status}: {err}")
    report = json.loads(out)
    return report["load_ms"] + report["prepare_ms"], report["first_run_ms"] / report["median_ms"]


def matmul_shares(tools, tries):
    """Share of the FMA peak, the peak measured right beside each run."""
    weights = np.random.default_rng(1).standard_normal((MATMUL, MATMUL)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")], "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [MATMUL, MATMUL])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [MATMUL, MATMUL])], [numpy_helper.from_array(weights, "w")])
    model = WORK / "matmul.onnx"
    model.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString())
    archive = WORK / "matmul.ingot"
    status, out, err = tools.compile(model, archive)
    if status != 0:
        raise SystemExit(f"aotc matmul: exit status {status}: {err}")
    shares = []
    for _ in range(tries):
        status, out, err = tools.call([tools.build / "benchmarks/peak"])
        peak = float(out.splitlines()[-1].split()[-1])
        status, out, err = tools.call([tools.ingot, "bench", archive, "--json", "--device=local-sync", "--seconds=0.5"], 120)
        if status != 0:
            raise SystemExit(f"ingot bench matmul: exit status {status}: {err}")
        shares.append(2 * MATMUL**3 / json.loads(out)["median_ms"] / 1e6 / peak)
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=str(harness.ROOT / "build"))
    parser.add_argument("--tries", type=int, default=11)
    parser.add_argument("--json")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    tools = harness.Tools(args.build)
    values = {figure: {model: [] for model in bars} for figure, (_, bars) in BARS.items()}
    for name in MODELS:
        archive = WORK / f"budget-{name}.ingot"
        seconds = [compile_once(tools, name, archive) for _ in range(3 if name in values["compile"] else 1)]
        if name in values["compile"]:
            values["compile"][name] = seconds
        for _ in range(args.tries):
            load, first = bench(tools, name, archive)
            if name in values["load + prepare"]:
                values["load + prepare"][name].append(load)
            values["first run / steady"][name].append(first)
    missed, report = 0, {}
    print(f"{'figure':20} {'model':8} {'median':>9} {'p10':>9} {'p90':>9} {'bar':>7}")
    for figure, (unit, bars) in BARS.items():
        for model, bar in bars.items():
            got = values[figure][model]
            median = statistics.median(got)
            low, high = np.percentile(got, 10), np.percentile(got, 90)
            missed += median > bar
            report[f"{figure}, {model}"] = {"median": median, "p10": low, "p90": high, "bar": bar, "unit": unit}
            print(f"{figure:20} {model:8} {median:9.3f} {low:9.3f} {high:9.3f} {bar:5g} {unit}"
                  + ("   missed" if median > bar else ""))
    shares = matmul_shares(tools, args.tries)
    median = statistics.median(shares)
    missed += median < MATMUL_SHARE
    report["share of the FMA peak, matmul"] = {"median": median, "p10": np.percentile(shares, 10),
                                               "p90": np.percentile(shares, 90), "bar": MATMUL_SHARE, "unit": "at least"}
    print(f"{'share of FMA peak':20} {'matmul':8} {median:9.3f} {np.percentile(shares, 10):9.3f} "
          f"{np.percentile(shares, 90):9.3f} {MATMUL_SHARE:5g} at least" + ("   missed" if median < MATMUL_SHARE else ""))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if missed else 0)


main()
