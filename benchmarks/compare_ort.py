"""Latency of models in Ingot and in ONNX Runtime, side by side in one run, one thread each.

    tools/setup.sh bench && .cache/venv/bin/python benchmarks/compare_ort.py [--build=build] [--rounds=9]
        [--model=rec --model=matmul...] [--json=FILE]

Each round runs ONNX Runtime for a while, then `ingot bench` for a while (their order alternates), and the ratio of the
two medians is taken per round. Printed: the median over the rounds with the 10th and 90th percentile, and the ratio
Ingot / ONNX Runtime (below 1: Ingot is faster), which counts as a difference where its 10-90 % band lies on one side
of 1. `matmul` is a 1024 x 1024 x 1024 f32 product, set beside the FMA peak that benchmarks/peak measures in the same
run. Run it alone on the machine.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/lib"))
import harness
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WORK = harness.CACHE / "bench"


def matmul_model(size=1024):
    """y = x . w with a constant w; random, so that nothing can be folded away."""
    path = WORK / f"matmul-{size}.onnx"
    weights = np.random.default_rng(1).standard_normal((size, size)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")], "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])],
        [numpy_helper.from_array(weights, "w")])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)],
                                       ir_version=7).SerializeToString())
    return path


def models():
    """name: (file, aotc flags, inputs, floating-point operations or None)"""
    rng = np.random.default_rng(7)
    image = lambda *shape: rng.uniform(-1, 1, shape).astype(np.float32)
    return {
        "rec": (harness.MODELS / "ch_PP-OCRv4_rec_infer.onnx", ["--input-shape=x=1x3x48x320"],
                {"x": image(1, 3, 48, 320)}, None),
        "face": (harness.MODELS / "face_detection_back_256x256_barracuda.onnx", [],
                 {"input:0": image(1, 256, 256, 3)}, None),
        "magika": (harness.MODELS / "magika.onnx", ["--input-shape=bytes=1x2048"],
                   {"bytes": rng.integers(0, 257, (1, 2048), np.int32)}, None),
        "matmul": (matmul_model(), [], {"x": image(1024, 1024)}, 2 * 1024**3),
    }


def percentile(values, q):
    return float(np.percentile(np.asarray(values), q))


def measure_ort(session, feeds, seconds):
    """Median milliseconds of as many runs as fit, after two that do not count."""
    names = [o.name for o in session.get_outputs()]
    for _ in range(2):
        session.run(names, feeds)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(names, feeds)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def bench(tools, archive, inputs, threads=1):
    command = [tools.ingot, "bench", archive, "--json", f"--threads={threads}"]
    command += [f"--input={name}=@{path}" for name, path in inputs.items()]
    status, out, err = tools.call(command, timeout=300)
    if status != 0:
        raise SystemExit(f"ingot bench {archive}: exit status {status}: {err}")
    return json.loads(out)


def milliseconds(report, key):
    """A figure of `ingot bench --json` in ms, whatever unit its key says."""
    flat = {}

    def walk(prefix, value):
        if isinstance(value, dict):
            for k, v in value.items():
                walk(f"{prefix}{k}.", v)
        else:
            flat[prefix.rstrip(".")] = value

    walk("", report)
    for suffix, scale in (("_ms", 1), ("_us", 1e-3), ("_ns", 1e-6), ("_s", 1e3)):
        for name, value in flat.items():
            if name.split(".")[-1] == key + suffix or name == key + suffix:
                return value * scale
    raise SystemExit(f"ingot bench --json has no '{key}_ms|us|ns|s': {sorted(flat)}")


def peak_gflops(tools):
    program = tools.build / "benchmarks" / "peak"
    status, out, err = tools.call([program])
    if status != 0:
        raise SystemExit(f"{program}: {err}")
    return float(out.splitlines()[-1].split()[-1])


def agree(tools, archive, feeds, session):
    """A fast wrong answer is no figure: outputs must agree before anything is timed."""
    names = [o.name for o in session.get_outputs()]
    folder = WORK / "check"
    folder.mkdir(exist_ok=True)
    outputs, status, err = tools.run(archive, feeds, names, folder)
    if outputs is None:
        raise SystemExit(f"ingot run {archive}: exit status {status}: {err}")
    for name, value in zip(names, session.run(names, feeds)):
        wrong = harness.agrees(outputs[name], value)
        if wrong:
            raise SystemExit(f"{archive}: {name}: {wrong}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(harness.ROOT / "build"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each program in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", action="append")
    parser.add_argument("--json")
    parser.add_argument("--limit", type=float, help="fail where a model is slower than this many times ONNX Runtime")
    parser.add_argument("--matmul-share", type=float, help="fail where matmul reaches less of the peak than this")
    args = parser.parse_args()
    if args.rounds < 7:
        parser.error("a ratio needs at least 7 rounds")
    WORK.mkdir(parents=True, exist_ok=True)
    tools = harness.Tools(args.build)
    report = {"machine": platform.processor() or platform.machine(), "threads": args.threads, "rounds": args.rounds,
              "onnxruntime": onnxruntime.__version__, "models": {}}
    failures = []
    print(f"ONNX Runtime {onnxruntime.__version__}, {args.threads} thread(s), {args.rounds} rounds, load average "
          f"{os.getloadavg()[0]:.2f}")
    print(f"{'model':8} {'Ingot ms':>9} {'p10':>8} {'p90':>8} {'ORT ms':>9} {'p10':>8} {'p90':>8} {'ratio':>6} "
          f"{'p10':>6} {'p90':>6}")
    for name, (path, flags, feeds, flops) in models().items():
        if args.model and name not in args.model:
            continue
        archive = WORK / f"{name}.ingot"
        status, out, err = tools.compile(path, archive, *flags)
        if status != 0:
            failures.append(f"{name}: aotc: exit status {status}: {err.strip()}")
            print(f"{name:8} not compiled")
            continue
        inputs = {}
        for index, (input_name, array) in enumerate(feeds.items()):
            inputs[input_name] = WORK / f"{name}-{index}.npy"
            np.save(inputs[input_name], array)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        agree(tools, archive, feeds, session)
        ours, theirs, peaks = [], [], []
        last = None
        for round_ in range(args.rounds):
            steps = [lambda: theirs.append(measure_ort(session, feeds, args.seconds)),
                     lambda: ours.append(bench(tools, archive, inputs, args.threads))]
            for step in steps if round_ % 2 == 0 else reversed(steps):
                step()
            if flops:
                peaks.append(peak_gflops(tools))
        last = ours[-1]
        medians = [milliseconds(r, "median") for r in ours]
        ratios = [a / b for a, b in zip(medians, theirs)]
        row = {"ingot_ms": {k: percentile(medians, q) for k, q in (("median", 50), ("p10", 10), ("p90", 90))},
               "onnxruntime_ms": {k: percentile(theirs, q) for k, q in (("median", 50), ("p10", 10), ("p90", 90))},
               "ratio": {k: percentile(ratios, q) for k, q in (("median", 50), ("p10", 10), ("p90", 90))},
               "last_bench": last}
        report["models"][name] = row
        i, t, r = row["ingot_ms"], row["onnxruntime_ms"], row["ratio"]
        print(f"{name:8} {i['median']:9.3f} {i['p10']:8.3f} {i['p90']:8.3f} {t['median']:9.3f} {t['p10']:8.3f} "
              f"{t['p90']:8.3f} {r['median']:6.2f} {r['p10']:6.2f} {r['p90']:6.2f}", flush=True)
        if args.limit and r["median"] > args.limit:
            failures.append(f"{name}: {r['median']:.2f} times ONNX Runtime, the limit is {args.limit}")
        if flops:
            rates = [flops / m / 1e6 for m in medians]
            shares = [rate / peak for rate, peak in zip(rates, peaks)]
            row.update(gflops=statistics.median(rates), peak_gflops=statistics.median(peaks),
                       share_of_peak=statistics.median(shares))
            print(f"         {row['gflops']:.1f} GFLOP/s of a peak of {row['peak_gflops']:.1f}: "
                  f"{100 * row['share_of_peak']:.1f} %")
            if args.matmul_share and row["share_of_peak"] < args.matmul_share:
                failures.append(f"{name}: {100 * row['share_of_peak']:.1f} % of the peak, the bar is "
                                f"{100 * args.matmul_share:.0f} %")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    for failure in failures:
        print("failed:", failure)
    sys.exit(1 if failures else 0)


main()
