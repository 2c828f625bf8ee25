"""WGSL: kernels of every model pass Dawn's validation; whole models run in Dawn over SwiftShader and agree with ONNX Runtime.

    .cache/venv/bin/python tests/gpu/gpu_wgsl.py [--build=DIR] [--only='kernels-*'] [--full | --share=N]

`invalid-...` shows that the validation refuses; `kernels-MODEL` validates every kernel of a model with the limits that
WebGPU promises everywhere (check_wgsl.mjs), `...-f16` of precision=f16 (SwiftShader has no f16 to run it with); `run-MODEL` runs it whole on the driver dawn.
"""
import os
import pathlib

import shaders  # first: it knows where the other modules lie
import harness
import numpy as np
import onnxruntime

RUNS = ("cls", "face-front", "face-back", "magika", "rec", "shufflenet_v2")
NODE = os.environ.get("INGOT_NODE", "/usr/bin/node")
PACKAGE = pathlib.Path(os.environ.get("INGOT_WEBGPU_PACKAGE", harness.ROOT / ".cache/npm/node_modules/webgpu"))

GOOD = """struct Params {
  p_rows: i32,
}
@group(0) @binding(0) var<storage, read> mem_x: array<f32>;
@group(0) @binding(1) var<storage, read_write> mem_y: array<f32>;
var<workgroup> mem_tile: array<f32, 64>;
@group(0) @binding(2) var<uniform> params: Params;
@compute @workgroup_size(64, 1, 1)
fn k_good(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_id) local_id: vec3<u32>) {
  let v0: i32 = i32(local_id.x);
  mem_tile[v0] = mem_x[v0];
  for (var t0: i32 = 0i; t0 < params.p_rows; t0 = t0 + 1i) {
    workgroupBarrier();
  }
  mem_y[v0] = mem_tile[0i];
}
"""
# what is wrong: (a piece of GOOD, what stands there instead, a piece of Dawn's message)
INVALID = {
    "type": ("let v0: i32 = i32(local_id.x)", "let v0: i32 = local_id.x", "type"),
    "barrier in divergent control flow": ("t0 < params.p_rows", "t0 < i32(local_id.x)", "uniform control flow"),
    "barrier after a read-write buffer decided": ("t0 < params.p_rows", "t0 < i32(mem_y[0])", "uniform control flow"),
    "undeclared name": ("mem_tile[0i]", "mem_tile[v9]", "v9"),
    "store to a read-only buffer": ("mem_y[v0] =", "mem_x[v0] =", "store"),
    "too much workgroup memory": ("array<f32, 64>", "array<f32, 8192>", "workgroup"),
    "too many invocations": ("workgroup_size(64, 1, 1)", "workgroup_size(512, 1, 1)", "workgroup"),
    "binding twice": ("@binding(1)", "@binding(0)", "binding"),
    "f64": ("let v0: i32 = i32(local_id.x)", "let v0: f64 = f64(local_id.x)", "f64"),
}


def validate(tools, folder):
    """{name: what Dawn says against it, or ''}, or an Outcome."""
    status, out, err = tools.call([NODE, shaders.HERE / "check_wgsl.mjs", PACKAGE, folder], timeout=300)
    if status != 0:
        return harness.fail(f"check_wgsl.mjs: exit status {status}: {err or out}")
    found = {}
    for line in out.splitlines():
        word, _, rest = line.partition(" ")
        name, _, why = rest.partition(": ")
        if word in ("ok", "failed"):
            found[name] = why if word == "failed" else ""
    return found


def invalid(tools, name, scratch):
    piece, other, message = INVALID[name]
    (scratch / "good.wgsl").write_text(GOOD)
    (scratch / "bad.wgsl").write_text(GOOD.replace(piece, other, 1).replace("k_good", "k_bad"))
    found = validate(tools, scratch)
    if isinstance(found, harness.Outcome):
        return found
    if GOOD.count(piece) < 1 or found.get("good", "missing"):
        return harness.fail(f"the text without a mistake: {found.get('good', 'missing')}")
    return harness.ok() if message in found.get("bad", "") else harness.fail(f"Dawn says: {found.get('bad')}")


def check_kernels(tools, name, scratch, precision=""):
    found = shaders.kernels(tools, name, "webgpu" + precision, "wgsl", scratch)
    if isinstance(found, harness.Outcome):
        return found
    for kernel, text in found.items():
        (scratch / f"{kernel}.wgsl").write_text(text)
    said = validate(tools, scratch)
    if isinstance(said, harness.Outcome):
        return said
    for kernel in found:
        if wrong := said.get(kernel, "was not looked at"):
            return harness.fail(f"{kernel}: {wrong}")
    return harness.ok(f"{len(found)} kernels")


def prepare(tools):
    drivers = shaders.with_drivers(tools)
    tests = {f"invalid-{name.replace(' ', '-')}": lambda scratch, n=name: invalid(tools, n, scratch) for name in INVALID}
    tests.update({f"kernels-{name}": lambda scratch, n=name: check_kernels(tools, n, scratch) for name in shaders.all_models()})
    for name in shaders.HALVES:
        tests[f"kernels-{name}-f16"] = lambda scratch, n=name: check_kernels(tools, n, scratch, shaders.HALF)
    if not PACKAGE.exists():
        tests = {name: lambda scratch: harness.skip(f"no npm package webgpu at {PACKAGE}") for name in tests}
    whole = {f"run-{name}": lambda scratch, n=name: shaders.whole_run(drivers, n, "webgpu", "dawn:0", scratch) for name in RUNS}
    if reason := shaders.missing(drivers, "dawn"):
        whole = {name: lambda scratch: harness.skip(reason) for name in whole}
    return {**tests, **whole}, harness.hash_of(shaders.HERE / "gpu_wgsl.py", shaders.HERE / "check_wgsl.mjs", *shaders.SOURCES)


if __name__ == "__main__":
    harness.run_suite("gpu-wgsl", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
