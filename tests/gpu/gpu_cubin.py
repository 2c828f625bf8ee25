"""NVIDIA's assembler takes every kernel of every model, for each chip that aotc knows, in f32 and f16. Nothing here runs them.

    .cache/venv/bin/python tests/gpu/gpu_cubin.py [--build=DIR] [--only='kernels-*'] [--full | --share=N]

`kernels-MODEL-CHIP[-f16]` compiles a model for cuda:CHIP with --ptxas: each kernel is there as PTX and as machine code, which is an
ELF file for that chip with the kernel's name in it.
"""
import json
import re
import shutil

import shaders  # first: it knows where the other modules lie
import harness

CHIPS = {"sm_80": 80, "sm_90": 90, "sm_90a": 90}
PTXAS = harness.CACHE / "venv/bin/ptxas"
CUDA_MACHINE = 190  # of ELF


def check_model(tools, name, chip, half, scratch):
    path, flags = shaders.all_models()[name]
    archive = scratch / "model.ingot"
    status, _, err = tools.compile(path, archive, f"--target=cuda:{chip}{',precision=f16' if half else ''}", f"--ptxas={PTXAS}", *flags, timeout=900)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    status, out, err = tools.call([tools.ingot, "inspect", "--json", archive])
    if status != 0:
        return harness.fail(f"inspect: exit status {status}: {err}")
    kernels, data = json.loads(out)["variants"][0]["kernels"], archive.read_bytes()
    objects = [data[m.start():] for m in re.finditer(rb"\x7fELF\x02\x01", data)]
    objects = [o for o in objects if int.from_bytes(o[18:20], "little") == CUDA_MACHINE]
    if not kernels or len(objects) != len(kernels):
        return harness.fail(f"{len(objects)} objects of {len(kernels)} kernels")
    for kernel, code in zip(kernels, objects):
        versions = {v["format"]: v for v in kernel["versions"]}
        fed = any(",fed" in v["schedule"] for v in versions.values())  # these ask for tensor maps
        masks = {"ptx": 2 if fed else 0, "cubin": 3 if fed else 1}
        if {f: int(v["feature_mask"], 16) for f, v in versions.items()} != masks or versions["cubin"]["rank"] <= versions["ptx"]["rank"]:
            return harness.fail(f"{kernel['name']}: versions {kernel['versions']}")
        code = code[:versions["cubin"]["code_bytes"]]
        chips = {int.from_bytes(code[48:52], "little") >> shift & 0xff for shift in (0, 8)}  # older and newer layout of the flags
        if CHIPS[chip] not in chips or f".text.{versions['cubin']['entry']}".encode() not in code:
            return harness.fail(f"{kernel['name']}: an object for {chips} without its entry, or for another chip")
    return harness.ok(f"{len(kernels)} kernels")


def prepare(tools):
    tests = {}
    for name in shaders.all_models():
        for chip in CHIPS:
            tests[f"kernels-{name}-{chip}"] = lambda scratch, n=name, c=chip: check_model(tools, n, c, False, scratch)
        for chip in ("sm_80", "sm_90a"):
            tests[f"kernels-{name}-{chip}-f16"] = lambda scratch, n=name, c=chip: check_model(tools, n, c, True, scratch)
    if shutil.which(PTXAS) is None:
        tests = {name: lambda scratch: harness.skip("no ptxas (PyPI's nvidia-cuda-nvcc)") for name in tests}
    return tests, harness.hash_of(shaders.HERE / "gpu_cubin.py", shaders.HERE / "shaders.py", shaders.HERE.parent / "models/catalogue.py",
                                  harness.versions()["CUDA_VERSION"])


if __name__ == "__main__":
    harness.run_suite("gpu-cubin", prepare, lambda: {"ptxas": harness.versions()["CUDA_VERSION"]})
