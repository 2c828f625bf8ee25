"""On a machine with a GPU and torch: exports the networks of tests/models there, from their seeds, compiles them with the aotc
that came along, and compares with ONNX Runtime (results) and torch on the same card (times).

    python3 tests/gpu/networks_on_device.py --aotc=FILE --ingot=FILE [--only='vit*,bert*'] [--target=vulkan] [--device=vulkan:0] [--json=FILE]

Needs python3 with torch, torchvision and onnxruntime. Weights stay on that machine: nothing large travels. Torch runs in f32
without TF32, eager and as one CUDA graph, inputs and results on the card; Ingot's time is from host memory to host memory,
and `kernels` is the sum of its kernels' own times. Each network is compiled a second time with precision=f16, and prepared
a second time with the pipelines that the first kept. Then single operators on large tensors: bytes a second beside what
torch reaches copying 256 MB; and matrix products of f16, f32 and 8 bits, microseconds of the kernels beside torch's. One line a test, `ok|not ok gpu/NAME # remark`; exit status 1 where one fails.
"""
import argparse
import fnmatch
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "models")]
import export_models
import numpy as np
import onnxruntime
import torch


def call(*command, timeout=280):
    done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=timeout)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(command[0]).name} {command[1]}: exit status {done.returncode}: " + " ".join(text.split())[-400:])
    return text


def kernel_us(report):
    return sum(site["time_us"] for site in report["sites"])


def milliseconds(run, seconds=1.0):
    run()
    torch.cuda.synchronize()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 10:
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def graph_of(run, before=1):
    """A function that replays what `run` does, after `before` runs without, as one CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(before):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = run()  # what it writes to lives as long as the function
    return lambda: (graph.replay(), kept)[0]


def torch_times(model, inputs):
    model = model.cuda()
    inputs = [t.cuda() for t in inputs]
    with torch.no_grad(), torch.device("cuda"):  # some networks make positions as they go
        eager = milliseconds(lambda: model(*inputs))
        try:
            return eager, milliseconds(graph_of(lambda: model(*inputs)))
        except RuntimeError:  # what a graph cannot hold
            return eager, None


def given_inputs(spec, folder):
    """The network's inputs as tensors, and the flags that give them to ingot and their dims to aotc."""
    inputs, given, shapes = spec["inputs"](1), [], []
    for i, (name, tensor) in enumerate(zip(spec["names"][0], inputs)):
        np.save(folder / f"in{i}.npy", tensor.numpy())
        given.append(f"--input={name}=@{folder / f'in{i}.npy'}")
        if name in spec.get("free", {}):
            shapes.append(f"--input-shape={name}=" + "x".join(map(str, tensor.shape)))
    return inputs, given, shapes


def network(name, spec, args, folder):
    onnx, archive = folder / "model.onnx", folder / "model.ingot"
    model = export_models.export(name, spec, onnx)
    inputs, given, shapes = given_inputs(spec, folder)
    names, outputs = spec["names"]
    feeds = {n: t.numpy() for n, t in zip(names, inputs)}
    wanted = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"]).run(outputs, feeds)
    peaks = [float(np.abs(value).max()) for value in wanted]
    for i, value in enumerate(wanted):
        np.save(folder / f"out{i}.npy", value)
    result = {}
    for prefix, target, relative, of_peak in (("", args.target, 1e-3, 1e-4), ("f16_", f"{args.target},precision=f16", 0, 1e-2)):
        started = time.perf_counter()
        call(args.aotc, onnx, "-o", archive, f"--target={target}", "--progress=off", *shapes)
        result[prefix + "compile_s"] = time.perf_counter() - started
        for i, (n, peak) in enumerate(zip(outputs, peaks)):
            call(args.ingot, "run", archive, f"--device={args.device}", *given, f"--expect={n}=@{folder / f'out{i}.npy'}", f"--rtol={relative}",
                 f"--atol={of_peak * peak}")
        report = json.loads(call(args.ingot, "bench", archive, f"--device={args.device}", *given, "--seconds=1", "--json", "--kernels"))
        result[prefix + "ms"] = report["median_ms"]
        result[prefix + "kernels_ms"] = kernel_us(report) / 1e3
        result[prefix + "allocations_per_run"] = report["allocations_per_run"]
        if not prefix:
            result["prepare_ms"] = report["prepare_ms"]
            result["slowest"] = [[s["kernel"], round(s["time_us"], 1)] for s in sorted(report["sites"], key=lambda s: -s["time_us"])[:12]]
            kept = folder / f"pipelines-{name}"
            kept.mkdir()
            for _ in range(2):
                again = json.loads(call(args.ingot, "bench", archive, f"--device={args.device}?cache={kept}", *given, "--runs=3", "--json"))
            result["prepare_again_ms"] = again["prepare_ms"]
    result["torch_eager_ms"], result["torch_graph_ms"] = torch_times(model, inputs)
    return result


def operators():
    """name: (nodes, input dims, other initialisers, bytes that must move)"""
    from onnx import TensorProto, helper

    def model(op, dims, out, weights=(), **attributes):
        node = helper.make_node(op, ["x", *(w.name for w in weights)], ["y"], **attributes)
        graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)], list(weights))
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return made, 4 * (int(np.prod(dims)) + int(np.prod(out)))

    def floats(name, dims):
        return helper.make_tensor(name, TensorProto.FLOAT, dims, np.random.default_rng(1).uniform(0.5, 1, dims).astype(np.float32).ravel())

    rows, columns = 16384, 4096
    image = [8, 256, 128, 128]
    return {
        "relu": model("Relu", [rows, columns], [rows, columns]),
        "softmax": model("Softmax", [rows, columns], [rows, columns], axis=1),
        "layer-normalisation": model("LayerNormalization", [rows, columns], [rows, columns], [floats("s", [columns]), floats("b", [columns])]),
        "transpose": model("Transpose", [rows, columns], [columns, rows], perm=[1, 0]),
        "transpose-0213": model("Transpose", [8, 512, 128, 128], [8, 128, 512, 128], perm=[0, 2, 1, 3]),
        "depthwise-3x3": model("Conv", image, image, [floats("w", [256, 1, 3, 3])], group=256, pads=[1, 1, 1, 1]),
        "sum-rows": model("ReduceMean", [rows, columns], [rows], axes=[1], keepdims=0),
        "sum-long-rows": model("ReduceMean", [8, 4 << 20], [8], axes=[1], keepdims=0),
        "sum-8x32768": model("ReduceMean", [8, 32768], [8], axes=[1], keepdims=0),
        "max-pool-3x3": model("MaxPool", image, image, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        "sum-columns": model("ReduceMean", [rows, columns], [columns], axes=[0], keepdims=0),
        "global-pool": model("GlobalAveragePool", image, [8, 256, 1, 1]),
    }


def bandwidth(args, folder, report):
    copied = torch.empty(64 << 20, dtype=torch.float32, device="cuda")
    target = torch.empty_like(copied)
    starts, ends = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    times = []
    for _ in range(20):
        starts.record()
        target.copy_(copied)
        ends.record()
        torch.cuda.synchronize()
        times.append(starts.elapsed_time(ends))
    copy = 2 * copied.numel() * 4 / statistics.median(times) / 1e6
    report["copy_gbps"] = copy
    print(f"# torch copies at {copy:.0f} GB/s", flush=True)
    failed = 0
    for name, (model, moved) in operators().items():
        if not any(fnmatch.fnmatch(name, p) for p in args.operators.split(",")):
            continue
        try:
            onnx, archive = folder / "op.onnx", folder / "op.ingot"
            onnx.write_bytes(model.SerializeToString())
            call(args.aotc, onnx, "-o", archive, f"--target={args.target}", "--progress=off")
            run = json.loads(call(args.ingot, "bench", archive, f"--device={args.device}", "--runs=10", "--json", "--kernels"))
            speed = moved / kernel_us(run) / 1e3
            report["operators"][name] = {"gbps": speed, "of_copy": speed / copy, "kernels_us": kernel_us(run)}
            print(f"ok gpu/{name} # {speed:.0f} GB/s, {speed / copy:.2f} of a copy", flush=True)
        except Exception as e:
            failed += 1
            print(f"not ok gpu/{name} # {e}", flush=True)
    return failed


PRODUCTS = {"4096x4096x4096": (4096, 4096, 4096), "1024x1024x1024": (1024, 1024, 1024), "128x768x768": (128, 768, 768),
            "128x3072x768+128x768x3072": (128, 3072, 768), "1x4096x4096": (1, 4096, 4096)}  # m x n x k; where n and k differ, there and back
CHAINS = 4, 24  # products one after the other


def torch_chain_us(x, weights, length):
    def run():
        y = x
        for i in range(length):
            y = y @ weights[i % len(weights)]
        return y

    with torch.no_grad():
        return 1e3 * milliseconds(graph_of(run), 0.5)


def product_chain(x, weights, length, kind):
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("MatMul", [f"y{i}" if i else "x", f"w{i % len(weights)}"], [f"y{i + 1}"]) for i in range(length)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, x.shape)],
                              [helper.make_tensor_value_info(f"y{length}", kind, [x.shape[0], weights[(length - 1) % len(weights)].shape[1]])],
                              [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def products(args, folder, report):
    """Matrix products, f16 with sums in f32, and f32: microseconds of one of many in a row, each reading what the one before wrote,
    as part of one graph; beside torch's, which is measured alike. The shorter chain's time is taken off, and with it all that comes
    once a run."""
    from onnx import TensorProto

    failed = 0
    for precision, kind, dtype, near in (("f16", TensorProto.FLOAT16, np.float16, 2e-2), ("f32", TensorProto.FLOAT, np.float32, 1e-4)):
        for name, (m, n, k) in PRODUCTS.items():
            if not any(fnmatch.fnmatch(f"matmul-{precision}-{name}", p) for p in args.operators.split(",")):
                continue
            try:
                random = np.random.default_rng(1)
                x = random.uniform(-0.5, 0.5, (m, k)).astype(dtype)
                shapes = [(k, n)] if n == k else [(k, n), (n, k)]
                weights = [(random.uniform(-1, 1, s) * (3 / s[0]) ** 0.5).astype(dtype) for s in shapes]
                onnx, archive = folder / "op.onnx", folder / "op.ingot"
                tx, tw = torch.tensor(x, device="cuda"), [torch.tensor(w, device="cuda") for w in weights]
                ours, theirs = [], []
                for length in CHAINS:
                    onnx.write_bytes(product_chain(x, weights, length, kind).SerializeToString())
                    call(args.aotc, onnx, "-o", archive, f"--target={args.target},precision={precision}", "--progress=off")
                    if length == CHAINS[0]:
                        y = tx.double()
                        for i in range(length):
                            y = (y @ tw[i % len(tw)].double()).to(tx.dtype).double()
                        np.save(folder / "x.npy", x)
                        np.save(folder / "y.npy", y.to(tx.dtype).cpu().numpy())
                        call(args.ingot, "run", archive, f"--device={args.device}", f"--input=x=@{folder / 'x.npy'}", f"--expect=y{length}=@{folder / 'y.npy'}",
                             "--rtol=0", f"--atol={near * float(y.abs().max())}")
                    ours.append(1e3 * json.loads(call(args.ingot, "bench", archive, f"--device={args.device}", "--seconds=0.7", "--json"))["median_ms"])
                    theirs.append(torch_chain_us(tx, tw, length))
                count = (CHAINS[1] - CHAINS[0]) // len(weights)
                us, torch_us = ((t[1] - t[0]) / count for t in (ours, theirs))
                tflops = 2e-6 * m * n * k * len(weights) / us
                report["products"][f"{precision}-{name}"] = {"us": us, "torch_us": torch_us, "tflops": tflops}
                print(f"ok gpu/matmul-{precision}-{name} # {us:.2f} us, {tflops:.0f} TFLOP/s; torch {torch_us:.2f} us", flush=True)
            except Exception as e:
                failed += 1
                print(f"not ok gpu/matmul-{precision}-{name} # {e}", flush=True)
    return failed


def byte_chain(x, weights, scales, length):
    """QLinearMatMul after QLinearMatMul, i8 by i8, zero points 0; `scales`: of what comes out, by 2^-8 of the sums."""
    from onnx import TensorProto, helper, numpy_helper

    inputs = [numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.int8(0), "zero"),
              *(numpy_helper.from_array(np.float32(s), f"s{i}") for i, s in enumerate(scales)), *(numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights))]
    nodes = [helper.make_node("QLinearMatMul", [f"y{i}" if i else "x", "one", "zero", f"w{i % len(weights)}", "one", "zero", f"s{i % len(weights)}", "zero"], [f"y{i + 1}"])
             for i in range(length)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.INT8, x.shape)],
                              [helper.make_tensor_value_info(f"y{length}", TensorProto.INT8, [x.shape[0], weights[(length - 1) % len(weights)].shape[1]])], inputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def byte_products(args, folder, report):
    """The same of 8 bits, sums in i32, each rounded to i8 again; torch's by torch._int_mm and what else that takes. Scales are powers of
    two: every byte must be equal."""
    failed = 0
    for name, (m, n, k) in {**PRODUCTS, "512x512x512": (512, 512, 512)}.items():
        if not any(fnmatch.fnmatch(f"matmul-i8-{name}", p) for p in args.operators.split(",")):
            continue
        try:
            random = np.random.default_rng(1)
            x = random.integers(-128, 128, (m, k)).astype(np.int8)
            shapes = [(k, n)] if n == k else [(k, n), (n, k)]
            weights = [random.integers(-128, 128, s).astype(np.int8) for s in shapes]
            scales = [2.0 ** round(np.log2(74 * s[0] ** 0.5)) for s in shapes]  # 74: of uniform bytes, the root of the mean square
            tx, tw = torch.tensor(x, device="cuda"), [torch.tensor(w.T.copy(), device="cuda").t() for w in weights]  # columns in a row, as its library wants them

            def step(y, i, sums):
                return (sums * (1 / scales[i % len(tw)])).round().clamp(-128, 127).to(torch.int8)

            onnx, archive = folder / "op.onnx", folder / "op.ingot"
            ours, theirs = [], []
            for length in CHAINS:
                onnx.write_bytes(byte_chain(x, weights, scales, length).SerializeToString())
                call(args.aotc, onnx, "-o", archive, f"--target={args.target}", "--progress=off")
                y = tx
                for i in range(length):
                    y = step(y, i, y.double() @ tw[i % len(tw)].double())
                np.save(folder / "x.npy", x)
                np.save(folder / "y.npy", y.cpu().numpy())
                call(args.ingot, "run", archive, f"--device={args.device}", f"--input=x=@{folder / 'x.npy'}", f"--expect=y{length}=@{folder / 'y.npy'}", "--rtol=0", "--atol=0")
                ours.append(1e3 * json.loads(call(args.ingot, "bench", archive, f"--device={args.device}", "--seconds=0.7", "--json"))["median_ms"])

                def run():
                    y = tx
                    for i in range(length):
                        y = step(y, i, torch._int_mm(y, tw[i % len(tw)]))
                    return y

                if m > 16:  # what it takes
                    with torch.no_grad():
                        theirs.append(1e3 * milliseconds(graph_of(run), 0.5))
            count = (CHAINS[1] - CHAINS[0]) // len(weights)
            us = (ours[1] - ours[0]) / count
            torch_us = (theirs[1] - theirs[0]) / count if theirs else None
            tops = 2e-6 * m * n * k * len(weights) / us
            report["products"][f"i8-{name}"] = {"us": us, "torch_us": torch_us, "tops": tops}
            print(f"ok gpu/matmul-i8-{name} # {us:.2f} us, {tops:.0f} TOP/s; torch {f'{torch_us:.2f} us' if theirs else 'takes no such'}", flush=True)
        except Exception as e:
            failed += 1
            print(f"not ok gpu/matmul-i8-{name} # {e}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aotc", required=True)
    parser.add_argument("--ingot", required=True)
    parser.add_argument("--only", default="*")
    parser.add_argument("--operators", default="*")
    parser.add_argument("--target", default="vulkan")
    parser.add_argument("--device", help="default: the first of the target's driver")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.device = args.device or args.target.split(":")[0] + ":0"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    report = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "models": {}, "operators": {}, "products": {}}
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        failed += bandwidth(args, pathlib.Path(scratch), report)
        failed += products(args, pathlib.Path(scratch), report)
        failed += byte_products(args, pathlib.Path(scratch), report)
        for name, spec in export_models.MODELS.items():
            if not any(fnmatch.fnmatch(name, p) for p in args.only.split(",")):
                continue
            try:
                r = report["models"][name] = network(name, spec, args, pathlib.Path(scratch))
                graph = f"{r['torch_graph_ms']:.3g}" if r["torch_graph_ms"] else "none"
                print(f"ok gpu/{name} # {r['ms']:.3g} ms ({r['kernels_ms']:.3g} in kernels), f16 {r['f16_ms']:.3g}, prepare {r['prepare_ms']:.3g}, again {r['prepare_again_ms']:.3g}; torch {r['torch_eager_ms']:.3g} ms, as a graph {graph}; "
                      f"{r['slowest'][:6]}", flush=True)
            except Exception as e:
                failed += 1
                print(f"not ok gpu/{name} # {e}", flush=True)
            if args.json:
                pathlib.Path(args.json).write_text(json.dumps(report, indent=1))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1))
    print(f"{len(report['models']) + len(report['operators']) + len(report['products'])} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
