"""MSL: kernels of every model obey Metal's rules and compile; whole models run on this CPU and agree with ONNX Runtime.

    .cache/venv/bin/python tests/gpu/gpu_msl.py [--build=DIR] [--only='kernels-*'] [--full | --share=N]

`rules-...` plants violations that the checker (msl_check.py) must find. `kernels-MODEL` checks every kernel of a model,
then compiles it with the stand-in library of tests/gpu/msl; `...-f16` has precision=f16. `run-MODEL` runs it whole on the driver metal-shim.
"""
import shutil

import shaders  # first: it knows where the other modules lie
import harness
import msl_check
import numpy as np
import onnxruntime

RUNS = ("cls", "face-front", "face-back", "magika", "rec", "bilstm_gru", "shufflenet_v2", "mobilenet_v3_large", "efficientnet_b0")
WARNINGS = ("-std=c++17", "-fsigned-char", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-attributes", "-Wno-unknown-pragmas",
            "-Wno-unused-parameter", "-Wno-unused-variable", "-Wno-unused-but-set-variable",
            "-Wno-tautological-compare", "-Wno-bitwise-instead-of-logical")

GOOD = """#include <metal_stdlib>
using namespace metal;
#pragma METAL fp contract(off)
struct Params {
  int p_rows;
  int p_columns;
};
[[max_total_threads_per_threadgroup(64)]]
kernel void k_sum(device const float *__restrict mem_x [[buffer(0)]], device float *__restrict mem_y [[buffer(1)]], device atomic_int *mem_n [[buffer(2)]], constant Params &params [[buffer(3)]], uint3 group_id [[threadgroup_position_in_grid]], uint3 local_id [[thread_position_in_threadgroup]]) {
  threadgroup float mem_tile[64];
  threadgroup atomic_int mem_count[1];
  const int v0 = int(local_id.x);
  const int v1 = int(uint(params.p_rows) * uint(group_id.x));
  const float4 v2 = float4(0x1p+0f, 0.5f, 2.0f, 0x0p+0f);
  float t0 = v2[3];
  for (int t1 = v0; t1 < params.p_columns; t1 += 64) {
    t0 = fma(mem_x[int(uint(v1) + uint(t1))], v2.x, t0);
  }
  mem_tile[v0] = (as_type<int>(t0) == 0x7fffffff ? sqrt(t0) : t0);
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  const int v3 = atomic_fetch_add_explicit(&mem_n[0], 1, memory_order_relaxed);
  atomic_store_explicit(&mem_count[0], v3, memory_order_relaxed);
  while (true) {
    if (!(v0 < 1)) {
      break;
    } else {
      mem_y[v1] = mem_tile[0];
      break;
    }
  }
}
"""

# what is wrong: (a piece of GOOD, what stands there instead, a piece of the checker's message)
PLANTED = {
    "buffer without address space": ("device float *__restrict mem_y", "float *__restrict mem_y", "without an address space"),
    "buffer in threadgroup": ("device float *__restrict mem_y", "threadgroup float *__restrict mem_y", "a buffer is in device or constant"),
    "pointer to pointer": ("device float *__restrict mem_y", "device float *device *mem_y", "'device'"),
    "two stars": ("device float *__restrict mem_y", "device float **mem_y", "a pointer to a pointer"),
    "buffer number twice": ("mem_y [[buffer(1)]]", "mem_y [[buffer(0)]]", "not unique and dense"),
    "buffer number with a gap": ("params [[buffer(3)]]", "params [[buffer(4)]]", "not unique and dense"),
    "parameter without attribute": ("uint3 local_id [[thread_position_in_threadgroup]]", "uint3 local_id", "has no attribute"),
    "position of one number": ("uint3 local_id", "uint local_id", "positions are uint3"),
    "signed position": ("uint3 local_id", "int3 local_id", "positions are uint3"),
    "unknown attribute": ("[[thread_position_in_threadgroup]]", "[[thread_position]]", "is not allowed"),
    "position twice": ("[[thread_position_in_threadgroup]]", "[[threadgroup_position_in_grid]]", "two parameters are"),
    "scalar by value": ("uint3 group_id [[threadgroup_position_in_grid]]", "constant int n [[buffer(4)]]", "passed by value"),
    "double": ("float t0 = v2[3]", "double t0 = v2[3]", "type 'double'"),
    "long long": ("float t0 = v2[3]", "long long t0 = 1", "'long'"),
    "unsigned int": ("const int v0", "const unsigned int v0", "type 'unsigned'"),
    "double literal": ("0.5f", "0.5", "literal '0.5'"),
    "long long literal": ("== 0x7fffffff", "== 0x7fffffffll", "literal '0x7fffffffll'"),
    "bool in a buffer": ("device float *__restrict mem_y", "device bool *__restrict mem_y", "bool in a buffer"),
    "bool in the params": ("int p_columns;", "bool p_columns;", "bool in a buffer"),
    "function of C": ("sqrt(t0)", "sqrtf(t0)", "function 'sqrtf' is not allowed"),
    "function not on the list": ("sqrt(t0)", "exp(t0)", "is not allowed"),
    "function of std": ("sqrt(t0)", "std::sqrt(t0)", "function 'std::sqrt' is not allowed"),
    "too few arguments": (", v2.x, t0)", ", v2.x)", "fma with 2 arguments"),
    "recursion": ("sqrt(t0)", "k_sum(t0)", "calls itself"),
    "helper function": ("struct Params {", "float helper(float x) {}\nstruct Params {", "no kernel"),
    "kernel that returns": ("kernel void", "kernel int", "returns void"),
    "threadgroup memory in a block": ("    t0 = fma", "    threadgroup float mem_inner[4];\n    t0 = fma", "inner block"),
    "too much threadgroup memory": ("mem_tile[64]", "mem_tile[8192]", "bytes of threadgroup memory"),
    "too many threads": ("threadgroup(64)", "threadgroup(2048)", "threads in a threadgroup"),
    "local pointer": ("float t0 = v2[3];", "float *t0 = mem_y;", "a local pointer"),
    "device local": ("float t0 = v2[3];", "device float t0;", "in address space device"),
    "pointer as a value": ("mem_y[v1] = mem_tile[0]", "mem_y[v1] = mem_tile", "pointers are not values"),
    "store to a read-only buffer": ("mem_y[v1] =", "mem_x[v1] =", "assignment to 'mem_x'"),
    "store to a constant": ("mem_y[v1] =", "v1 =", "assignment to 'v1'"),
    "atomic read as a value": ("mem_y[v1] = mem_tile[0]", "mem_y[v1] = mem_n[0]", "is atomic"),
    "atomic function on a plain buffer": ("(&mem_n[0], 1,", "(&mem_y[0], 1,", "which is not atomic"),
    "order that Metal lacks": ("&mem_n[0], 1, memory_order_relaxed", "&mem_n[0], 1, memory_order_seq_cst", "memory_order_relaxed"),
    "reserved word": ("float t0 = v2[3];", "float half = v2[3];", "reserved word 'half'"),
    "word of the language": ("const int v0", "const int sampler", "reserved word 'sampler'"),
    "name of the compiler's": ("const int v0", "const int v__0", "a name that is the compiler's"),
    "undeclared name": ("t0 = fma", "t9 = fma", "begins with 't9'"),
    "declared twice": ("float t0 = v2[3];", "float v0 = v2[3];", "declared twice"),
    "another header": ("#pragma METAL", "#include <cmath>\n#pragma METAL", "directive"),
    "contraction left on": ("#pragma METAL fp contract(off)\n", "", "is there 0 times"),
    "goto": ("break;\n    } else", "goto out;\n    } else", "'goto'"),
    "static local": ("float t0 = v2[3];", "static float t0;", "'static'"),
    "member that is not there": ("params.p_columns", "params.p_depth", "no member 'p_depth'"),
}


def rule(name):
    piece, other, message = PLANTED[name]
    if GOOD.count(piece) < 1:
        return harness.fail(f"there is no '{piece}' to replace")
    found = msl_check.check(GOOD.replace(piece, other, 1))
    return harness.ok() if found and message in found else harness.fail(f"the checker says: {found}")


def no_violation(tools, scratch):
    if wrong := msl_check.check(GOOD):
        return harness.fail(f"line {wrong}")
    (scratch / "good.msl").write_text(GOOD)
    return harness.fail(why) if (why := compile_all(tools, scratch, ["good.msl"])) else harness.ok()


def compile_all(tools, folder, files):
    """'' where all files, each in a namespace of its own, compile with the stand-in library; else what the compiler says."""
    unit = "#include <metal_stdlib>\n"
    for number, file in enumerate(files):
        unit += f'#undef INGOT_SHIM_SECTION\n#define INGOT_SHIM_SECTION "s{number}"\nnamespace n{number} {{\n#include "{file}"\n}}\n'
    (folder / "unit.cpp").write_text(unit)
    status, out, err = tools.call([shaders.SHIM_CXX, *WARNINGS, "-I", shaders.HERE / "msl", folder / "unit.cpp"], timeout=300)
    return "" if status == 0 else f"{shaders.SHIM_CXX}: exit status {status}: {err or out}"


def check_kernels(tools, name, scratch, precision=""):
    found = shaders.kernels(tools, name, "metal" + precision, "msl", scratch)
    if isinstance(found, harness.Outcome):
        return found
    rules = msl_check.read_allowed()
    for kernel, text in found.items():
        if wrong := msl_check.check(text, rules):
            return harness.fail(f"{kernel}: line {wrong}")
        (scratch / f"{kernel}.msl").write_text(text)
    if shutil.which(shaders.SHIM_CXX) is None:
        return harness.skip(f"no {shaders.SHIM_CXX}; {len(found)} kernels obey the rules")
    wrong = compile_all(tools, scratch, [f"{kernel}.msl" for kernel in found])
    return harness.fail(wrong) if wrong else harness.ok(f"{len(found)} kernels")


def barriers_matter(tools, scratch):
    """The same run with barriers that do nothing has to be wrong: threadgroup memory holds NaNs at the start."""
    outcome = shaders.whole_run(tools, "face-front", "metal", "metal-shim:0?barriers=off", scratch)
    if outcome.status == "fail" and "differ" in outcome.reason:
        return harness.ok()
    return harness.fail(f"without barriers: {outcome.status} {outcome.reason}")


def prepare(tools):
    drivers = shaders.with_drivers(tools)
    tests = {f"rules-{name.replace(' ', '-')}": lambda scratch, n=name: rule(n) for name in PLANTED}
    tests["rules-none-broken"] = lambda scratch: no_violation(tools, scratch)
    for name in shaders.all_models():
        tests[f"kernels-{name}"] = lambda scratch, n=name: check_kernels(tools, n, scratch)
    whole = {f"run-{name}": lambda scratch, n=name: shaders.whole_run(drivers, n, "metal", "metal-shim:0", scratch) for name in RUNS}
    for name in shaders.HALVES:
        tests[f"kernels-{name}-f16"] = lambda scratch, n=name: check_kernels(tools, n, scratch, shaders.HALF)
        whole[f"run-{name}-f16"] = lambda scratch, n=name: shaders.whole_run(drivers, n, "metal" + shaders.HALF, "metal-shim:0", scratch)
    whole["run-without-barriers"] = lambda scratch: barriers_matter(drivers, scratch)
    if reason := shaders.missing(drivers, "metal-shim"):
        whole = {name: lambda scratch: harness.skip(reason) for name in whole}
    return {**tests, **whole}, harness.hash_of(shaders.HERE / "gpu_msl.py", *shaders.SOURCES)


if __name__ == "__main__":
    harness.run_suite("gpu-msl", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
