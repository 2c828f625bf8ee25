"""Quantised operators and models: every CPU code version, vmvx, and cuda over tests/mock, against exact sums and ONNX Runtime.

    .cache/venv/bin/python tests/onnx/quantised_agree.py [--build=DIR] [--only='qdq-*'] [--device=cuda:0]

`integer-*`: MatMulInteger and ConvInteger with drawn shapes, types and zero points equal sums in 64-bit integers.
`qlinear-*`, `qdq-*`: outputs agree with ONNX Runtime within one quantisation step: it multiplies the sum by the combined
scale in f32 and rounds half to even, where Ingot divides by the output's scale, so that ties may fall apart. ONNX
Runtime runs with session.x64quantprecision, since its product for AVX2 saturates otherwise. Each native archive runs once for
every code version that the machine has, forced by the device option features=. For cuda, products that fill a fragment are on
matrix units; the mock of its library interprets their PTX, unless --device names a GPU.
"""
import math
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "models")]
import harness
import numpy as np
import onnx
import onnxruntime
import quantised
from onnx import helper

COUNTS = {"integer": 24, "qlinear": 12, "qdq": 16}
# name: (bits of schemas/cpu_abi.h, what /proc/cpuinfo calls the feature that it needs)
VERSIONS = {"x86-64-v2": (0x1, "sse4_2"), "x86-64-v3": (0x3, "avx2"), "x86-64-v4": (0x7, "avx512bw"), "vnni": (0xf, "avx512_vnni")}


def devices():
    flags = set()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
    return {name: f"local-sync://0?features={mask:#x}" for name, (mask, flag) in VERSIONS.items() if flag in flags}


def reference(model, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))


def apart(actual, expected, step):
    """None where all are within one step of each other, and most are equal; else what is wrong."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{list(actual.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if expected.size > 200 and (expected == expected.flat[0]).all():
        return "the reference is constant: it proves nothing"
    steps = np.abs(actual.astype(np.float64) - expected.astype(np.float64)) / step
    if steps.size and steps.max() > 1.001:
        return f"{steps.max():.0f} steps apart"
    if steps.size > 50 and (steps > 0.5).mean() > 0.05:
        return f"{(steps > 0.5).mean():.0%} are a step apart"
    return None


def fills(m, n, k):
    """Whether a product is worth the matrix units: little of its fragments would be empty."""
    return m >= 8 and n >= 8 and k >= 32


def has_cuda(tools):
    return tools.device is not None or (tools.build / "tests/mock/libcuda.so.1").exists()


def on_cuda(tools, path, runs, wrong, scratch, units, target="cuda", words=""):
    """None, or what is wrong with the model for cuda; `words`: of a kernel's schedule."""
    if not tools.device:
        os.environ["LD_LIBRARY_PATH"] = str(tools.build / "tests/mock")
    status, _, err = tools.compile(path, scratch / "model.ingot", f"--target={target}")
    if status != 0:
        return f"{target}: aotc: exit status {status}: {err}"
    _, text, _ = tools.call([tools.ingot, "inspect", scratch / "model.ingot"])
    if ("simt_fragments_i8{" in text) != units:
        return f"{target}: " + ("no product on matrix units" if units else "a product on matrix units that would leave them empty")
    if words not in text:
        return f"{target}: no kernel with {words}"
    for feeds, wanted in runs:
        outputs, status, err = tools.run(scratch / "model.ingot", feeds, list(wanted), scratch, f"--device={tools.device or 'cuda:0'}")
        if outputs is None:
            return f"{target}: ingot run: exit status {status}: {err}"
        for output, value in wanted.items():
            if problem := wrong(outputs[output], value):
                return f"{target}: {problem}"
    return None


def run_everywhere(tools, model, feeds, wanted, wrong, scratch, form=None, units=True):
    """`form`: a kernel that x86-64-v4-vnni has; `units`: whether cuda has one on matrix units."""
    path = scratch / "model.onnx"
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    here = devices()
    for target in ("llvm-cpu", "vmvx"):
        status, _, err = tools.compile(path, scratch / "model.ingot", f"--target={target}")
        if status != 0:
            return harness.fail(f"{target}: aotc: exit status {status}: {err}")
        if target == "llvm-cpu" and form:
            status, text, err = tools.call([tools.aotc, path, "--emit=kernels", "-o", "-", "--target=llvm-cpu:x86-64-v4-vnni"])
            if status != 0 or form not in text:
                return harness.fail(f"no {form} among its kernels {err}")
        for name, device in (here if target == "llvm-cpu" else {"vmvx": "local-sync"}).items():
            outputs, status, err = tools.run(scratch / "model.ingot", feeds, list(wanted), scratch, f"--device={device}")
            if outputs is None:
                return harness.fail(f"{name}: ingot run: exit status {status}: {err}")
            for output, value in wanted.items():
                problem = wrong(outputs[output], value)
                if problem:
                    return harness.fail(f"{name}: {problem}")
    if has_cuda(tools):
        if problem := on_cuda(tools, path, [(feeds, wanted)], wrong, scratch, units):
            return harness.fail(problem)
        here["cuda" if tools.device else "cuda on a mock"] = None
    missing = [name for name in VERSIONS if name not in here]
    return harness.ok(f"{', '.join(here)}, vmvx" + (f"; this machine lacks {', '.join(missing)}" if missing else ""))


def draw_type(rng):
    return np.uint8 if rng.integers(2) else np.int8


def draw_bytes(rng, dtype, shape):
    """All bytes, the ends of the range more often."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max + 1, shape)
    ends = rng.choice([info.min, info.max], shape)
    return np.where(rng.random(shape) < 0.3, ends, values).astype(dtype)


def draw_zero(rng, dtype, shape=()):
    info = np.iinfo(dtype)
    if rng.random() < 0.3:
        return np.array(rng.choice([info.min, info.max]), dtype) if shape == () else draw_bytes(rng, dtype, shape)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def windows_of(x, zero, kernel, stride, pad):
    padded = np.pad(x.astype(np.int64) - np.int64(zero), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]


def integer(tools, seed, scratch):
    rng = np.random.default_rng(seed)
    left, right = draw_type(rng), draw_type(rng)
    b = quantised.Builder(seed)
    if seed % 3 != 2:
        m, k, n = (int(v) for v in rng.integers(1, [60, 90, 80]))
        x, w = draw_bytes(rng, left, (m, k)), draw_bytes(rng, right, (k, n))
        zx = draw_zero(rng, left, (m,) if rng.random() < 0.2 else ())
        zw = draw_zero(rng, right, (n,) if rng.random() < 0.5 else ())
        wide_zx = zx.astype(np.int64).reshape(-1, 1) if zx.ndim else np.int64(zx)
        y = (x.astype(np.int64) - wide_zx) @ (w.astype(np.int64) - zw.astype(np.int64))
        constant, axis, op, attributes = rng.random() < 0.6, 1, "MatMulInteger", {}
    else:
        c, out = int(rng.choice([3, 16, 32])), 16 * int(rng.integers(1, 4))
        kernel, stride, pad = int(rng.choice([1, 3])), int(rng.integers(1, 3)), int(rng.integers(0, 2))
        h, width = (int(v) for v in rng.integers(kernel + 1, 14, 2))
        x, w = draw_bytes(rng, left, (1, c, h, width)), draw_bytes(rng, right, (out, c, kernel, kernel))
        zx, zw = draw_zero(rng, left), draw_zero(rng, right)
        y = np.einsum("nchwij,ocij->nohw", windows_of(x, zx, kernel, stride, pad), w.astype(np.int64) - np.int64(zw))
        constant, axis, op, attributes = True, 0, "ConvInteger", {"strides": [stride] * 2, "pads": [pad] * 4}
    b.nodes.append(helper.make_node(op, ["x", b.constant(w) if constant else "w", b.constant(zx), b.constant(zw)], ["y"],
                                    name="product", **attributes))
    inputs = [quantised.value("x", left, x.shape)] + ([] if constant else [quantised.value("w", right, w.shape)])
    model = b.model(inputs, [quantised.value("y", np.int32, y.shape)])
    return run_everywhere(tools, model, {"x": x} if constant else {"x": x, "w": w}, {"y": y.astype(np.int32)},
                          exact, scratch, "dot4{", fills(y.size // w.shape[axis], w.shape[axis], w.size // w.shape[axis]))


def qlinear(tools, seed, scratch):
    """Against ONNX Runtime, or the operator's formula where that lacks a kernel for the types."""
    rng = np.random.default_rng(1000 + seed)
    left, right = draw_type(rng), draw_type(rng)
    b = quantised.Builder(seed)
    zx, zw = draw_zero(rng, left), np.array(0, right) if right == np.int8 else draw_zero(rng, right)
    zy = np.array(int(rng.integers(-40, 41)) + (128 if left == np.uint8 else 0), left)
    w_scale, bias, axis = np.float32(0.01), np.int64(0), seed % 2
    if seed % 2:
        m, k, n = (int(v) for v in rng.integers(2, [40, 90, 70]))
        x, w = draw_bytes(rng, left, (m, k)), draw_bytes(rng, right, (k, n))
        sums = (x.astype(np.int64) - np.int64(zx)) @ (w.astype(np.int64) - np.int64(zw))
    else:
        c, out, kernel = int(rng.choice([3, 16, 32])), 16 * int(rng.integers(1, 3)), int(rng.choice([1, 3]))
        x, w = draw_bytes(rng, left, (1, c, *(int(v) for v in rng.integers(kernel + 1, 14, 2)))), draw_bytes(rng, right, (out, c, kernel, kernel))
        sums = np.einsum("nchwij,ocij->nohw", windows_of(x, zx, kernel, 1, kernel // 2), w.astype(np.int64) - np.int64(zw))
        bias = rng.integers(-4000, 4000, out).astype(np.int32)
        if right == np.int8:
            w_scale = rng.uniform(0.005, 0.02, out).astype(np.float32)
    y_scale = np.float32(0.02 * np.max(w_scale) * np.abs(sums).max() / 80)
    inputs = ["x", *map(b.constant, (np.float32(0.02), zx, w, w_scale, np.broadcast_to(zw, np.shape(w_scale)), y_scale, zy))]
    if seed % 2:
        node = helper.make_node("QLinearMatMul", inputs, ["y"], name="product")
    else:
        node = helper.make_node("QLinearConv", [*inputs, b.constant(bias)], ["y"], name="product", pads=[kernel // 2] * 4)
        sums, w_scale = sums + bias.reshape(1, -1, 1, 1), np.reshape(w_scale, (1, -1, 1, 1))
    b.nodes.append(node)
    model = b.model([quantised.value("x", left, x.shape)], [quantised.value("y", left, sums.shape)])
    try:
        wanted = reference(model, {"x": x})
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        info = np.iinfo(left)
        exact = np.rint(sums * (0.02 * np.float64(w_scale) / np.float64(y_scale))) + np.int64(zy)
        wanted = {"y": np.clip(exact, info.min, info.max).astype(left)}
    return run_everywhere(tools, model, {"x": x}, wanted, lambda a, e: apart(a, e, 1), scratch, "dot4{", fills(sums.size // w.shape[axis], w.shape[axis], w.size // w.shape[axis]))


def qdq(tools, seed, scratch):
    """One product between DequantizeLinear and QuantizeLinear, with what may lie around it."""
    rng = np.random.default_rng(2000 + seed)
    b = quantised.Builder(seed, np.uint8 if seed % 4 else np.int8)
    kind, per_channel = ("Conv", "MatMul", "Gemm")[seed % 3], rng.random() < 0.6
    step = 0.02
    if kind == "Conv":
        c, out, kernel = int(rng.choice([3, 16, 48])), 16 * int(rng.integers(1, 4)), int(rng.choice([1, 3]))
        shape = (1, c, *(int(v) for v in rng.integers(kernel + 1, 15, 2)))
        w, w_scale = b.weight((out, c, kernel, kernel), 0, per_channel)
        k = c * kernel * kernel
    else:
        k, out = int(rng.integers(3, 120)), int(rng.integers(4, 90))
        shape = (int(rng.integers(1, 40)), k) if kind == "Gemm" or rng.random() < 0.5 else (2, int(rng.integers(1, 20)), k)
        axis = 0 if kind == "Gemm" else 1
        w, w_scale = b.weight((out, k) if kind == "Gemm" else (k, out), axis, per_channel)
    x = b.quantise("x", step, b.zero())
    if kind == "Conv":
        y = b.node("Conv", [x, w, b.bias(out, step, w_scale)], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
    elif kind == "Gemm":
        y = b.node("Gemm", [x, w, b.bias(out, step, w_scale)], transB=1)
    else:
        y = b.node("MatMul", [x, w])
    if rng.random() < 0.5:
        y = b.node("Relu", [y])
    b.nodes.append(helper.make_node("Identity", [b.quantise(y, step, b.zero())], ["y"], name="out"))
    feeds = {"x": rng.standard_normal(shape).astype(np.float32)}
    spatial = {"Conv": lambda: (1, out, *shape[2:])}.get(kind, lambda: (*shape[:-1], out))()
    model = b.model([quantised.value("x", np.float32, shape)], [quantised.value("y", np.float32, spatial)])
    return run_everywhere(tools, model, feeds, reference(model, feeds), lambda a, e: apart(a, e, step), scratch, "dot4{", fills(math.prod(spatial) // out, out, k))


def float_products(tools, scratch):
    """Without a conversion to 8 bits behind it, a product of dequantised values is one of floats, as written."""
    b = quantised.Builder(5)
    w, _ = b.weight((30, 20), 1)
    b.nodes.append(helper.make_node("MatMul", [b.quantise("x", 0.02, 128), w], ["y"], name="product"))
    model = b.model([quantised.value("x", np.float32, (9, 30))], [quantised.value("y", np.float32, (9, 20))])
    path = scratch / "model.onnx"
    path.write_bytes(model.SerializeToString())
    status, text, err = tools.call([tools.aotc, path, "--emit=kernels", "-o", "-", "--target=llvm-cpu:x86-64-v4-vnni"])
    return harness.ok() if status == 0 and "dot4" not in text and "contract{" in text else harness.fail(f"{err} {text[:200]}")


def residual_network(tools, scratch, activation):
    model = quantised.resnet_like(32, (16, 32), (1, 2), 10, 3, activation)
    feeds = {"image": np.random.default_rng(4).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    # Ties that fall apart in one layer move sums of the next: a few steps at the end of eleven.
    return run_everywhere(tools, model, feeds, reference(model, feeds), lambda a, e: apart(a, e, 3 * 6 / 255), scratch, "dot4{")


def exact(actual, expected):
    return harness.agrees(actual, expected, proves=False)


def product_on_cuda(tools, scratch, left, right, size, ms, words):
    """Products whose sums are exact, at several numbers of rows, with zero points of rows' and columns' factors."""
    if not has_cuda(tools):
        return harness.skip("this build has no mock of cuda's library")
    k, n = size
    rng = np.random.default_rng(k)
    zx, zw = draw_zero(rng, left), draw_zero(rng, right, (n,))
    model, w = quantised.matmul_integer("rows" if len(ms) > 1 else ms[0], k, n, left, right, zx, zw, seed=k)
    (scratch / "model.onnx").write_bytes(model.SerializeToString())
    runs = []
    for m in ms:
        x = draw_bytes(rng, left, (m, k))
        y = (x.astype(np.int64) - np.int64(zx)) @ (w.astype(np.int64) - zw.astype(np.int64))
        runs.append(({"a": x}, {"y": y.astype(np.int32)}))
    problem = on_cuda(tools, scratch / "model.onnx", runs, exact, scratch, True, words=words)
    return harness.fail(problem) if problem else harness.ok()


def half_network(tools, scratch):
    """Memory in f16 changes nothing about bytes."""
    if not has_cuda(tools):
        return harness.skip("this build has no mock of cuda's library")
    model = quantised.resnet_like(32, (16, 32), (1, 2), 10, 3)
    (scratch / "model.onnx").write_bytes(model.SerializeToString())
    feeds = {"image": np.random.default_rng(4).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    problem = on_cuda(tools, scratch / "model.onnx", [(feeds, reference(model, feeds))], lambda a, e: apart(a, e, 3 * 6 / 255), scratch, True, "cuda,precision=f16")
    return harness.fail(problem) if problem else harness.ok()


def network_steps(tools, scratch, activation, most):
    """On cuda no step goes on sums of activations, nor on padding by a zero point that can be 0, nor, where it is, on moving bytes."""
    path = scratch / "model.onnx"
    path.write_bytes(quantised.resnet_like(32, (16, 32), (1, 2), 10, 3, activation).SerializeToString())
    status, text, err = tools.call([tools.aotc, path, "--target=cuda", "--emit=dispatches", "-o", "-"])
    steps = sum(line.startswith("  dispatch @") for line in text.splitlines())
    return harness.ok(f"{steps} steps") if status == 0 and 10 < steps <= most else harness.fail(f"{steps} steps, at most {most} are expected {err}")


def prepare(tools):
    tests = {}
    for family, function in (("integer", integer), ("qlinear", qlinear), ("qdq", qdq)):
        for seed in range(COUNTS[family]):
            tests[f"{family}-{seed}"] = lambda scratch, f=function, s=seed: f(tools, s, scratch)
    tests["floats-stay"] = lambda scratch: float_products(tools, scratch)
    for activation in (np.uint8, np.int8):
        tests[f"residual-network-{np.dtype(activation)}"] = lambda scratch, a=activation: residual_network(tools, scratch, a)
    for activation, most in ((np.uint8, 14), (np.int8, 17)):
        tests[f"network-steps-{np.dtype(activation)}"] = lambda scratch, a=activation, n=most: network_steps(tools, scratch, a, n)
    tests["half-network"] = lambda scratch: half_network(tools, scratch)
    for left in (np.uint8, np.int8):
        for right in (np.uint8, np.int8):
            name = f"{np.dtype(left)}-{np.dtype(right)}"
            tests[f"free-rows-{name}"] = lambda scratch, a=left, b=right: product_on_cuda(tools, scratch, a, b, (272, 72), (1, 3, 8, 17, 70), "simt_fragments_i8{")
            tests[f"deep-{name}"] = lambda scratch, a=left, b=right: product_on_cuda(tools, scratch, a, b, (4096, 40), (24,), "_parts")
    pins = harness.versions()
    return tests, harness.hash_of(HERE / "quantised_agree.py", HERE.parent / "models/quantised.py", pins["ONNXRUNTIME_VERSION"])


if __name__ == "__main__":
    harness.run_suite("quantised", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
