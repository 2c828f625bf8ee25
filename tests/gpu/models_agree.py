"""Whole models on Vulkan, as this machine has it, agree with ONNX Runtime; the validation layer is on, and any message fails.

    .cache/venv/bin/python tests/gpu/models_agree.py [--networks | --large | --mock] [--build=DIR] [--only='cls*'] [--full | --share=N]

MODEL is f32; MODEL-f16 is compiled with precision=f16 (memory in f16, sums in f32), keeps the types of its inputs and
outputs, and agrees within 1e-2 of each output's peak. Three suites: gpu-models are those that a software device runs in
seconds; a run of them allocates nothing either. gpu-networks (--networks) are the other models of
tests/models/catalogue.py, run once, and gpu-networks-large (--large) those that take minutes there. gpu-models-cuda (--mock)
are small ones on the driver cuda over tests/mock: their PTX runs in an interpreter.
"""
import argparse
import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "models")]
import catalogue
import harness
import networks_agree
import numpy as np
import onnxruntime

QUICK = ("cls", "face-front", "face-back", "magika", "rec", "bilstm_gru", "shufflenet_v2")
LARGE = ("det", "resnet50", "vit_b_16", "swin_t", "convnext_tiny", "bert_base")
MOCK = ("cls", "face-front")
LIMIT = 900  # seconds of one call, on a busy machine


def agrees_as_half(actual, reference):
    """None where |a-r| <= 1e-2 max|r| everywhere, else what is wrong."""
    if actual.dtype.kind != "f":
        return harness.agrees(actual, reference)
    return harness.agrees(actual, reference, relative=0, of_peak=1e-2)


def compare(tools, where, model, half, bench, scratch):
    target, device = where
    archive = scratch / "model.ingot"
    status, _, err = tools.compile(model.path, archive, f"--target={target},precision={'f16' if half else 'f32'}", *model.flags, timeout=LIMIT)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    feeds = model.feeds(1)
    [expected] = networks_agree.reference(model, [feeds])
    outputs, status, err = tools.run(archive, feeds, list(expected), scratch, f"--device={device}", timeout=LIMIT)
    if outputs is None:
        return harness.fail(f"ingot run: exit status {status}: {err}")
    worst = 0.0
    for output, value in expected.items():
        wrong = (agrees_as_half if half else harness.agrees)(outputs[output], value)
        if wrong:
            return harness.fail(f"{output}: {wrong}")
        worst = max(worst, float(np.abs(outputs[output] - value).max() / np.abs(value).max()))
    if not bench:
        return harness.ok(f"worst error / peak {worst:.1e}")
    status, out, err = tools.call([tools.ingot, "bench", "--json", "--runs=2", archive, f"--device={device.split('?')[0]}",
                                   *(f"--input={n}=@{scratch}/in{i}.npy" for i, n in enumerate(feeds))], timeout=LIMIT)
    if status != 0:
        return harness.fail(f"ingot bench: exit status {status}: {err}")
    if (count := json.loads(out)["allocations_per_run"]) != 0:
        return harness.fail(f"{count} allocations a run")
    return harness.ok(f"worst error / peak {worst:.1e}")


def machine_code(tools, model, scratch):
    """With --ptxas a run needs no compiler on the device: the archive has its code for that chip, beside the PTX for others."""
    archive, ptxas = scratch / "model.ingot", HERE.parent / "mock/ptxas.py"
    status, _, err = tools.compile(model.path, archive, "--target=cuda:sm_90", f"--ptxas={ptxas}", *model.flags)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    without = harness.Tools(tools.build)
    without.ingot = scratch / "ingot"
    without.ingot.write_text(f'#!/bin/sh\nINGOT_MOCK_NO_LINKER=1 exec {tools.ingot} "$@"\n')
    without.ingot.chmod(0o755)
    feeds = model.feeds(1)
    [expected] = networks_agree.reference(model, [feeds])
    outputs, status, err = without.run(archive, feeds, list(expected), scratch, "--device=cuda:0", timeout=LIMIT)
    if outputs is None:
        return harness.fail(f"ingot run: exit status {status}: {err}")
    for output, value in expected.items():
        if wrong := harness.agrees(outputs[output], value):
            return harness.fail(f"{output}: {wrong}")
    # Its PTX alone does not run there, and an assembler that fails leaves nothing behind.
    plain = scratch / "plain.ingot"
    tools.compile(model.path, plain, "--target=cuda:sm_90", *model.flags)
    if without.run(plain, feeds, list(expected), scratch, "--device=cuda:0", timeout=LIMIT)[0] is not None:
        return harness.fail("PTX ran without a linker")
    # An object that says it is longer than it is.
    cut = scratch / "cut"
    cut.write_text("#!/usr/bin/env python3\nimport sys\nopen(sys.argv[3], 'wb').write(b'\\x7fELF' + bytes(36) + (1 << 40).to_bytes(8, 'little') + "
                   "bytes(10) + b'\\x40\\0\\x05\\0' + bytes(2))\n")
    cut.chmod(0o755)
    tools.compile(model.path, plain, "--target=cuda:sm_90", f"--ptxas={cut}", *model.flags)
    outputs, status, err = without.run(plain, feeds, list(expected), scratch, "--device=cuda:0", timeout=LIMIT)
    if status != 1 or "its code object is cut off" not in err:
        return harness.fail(f"a code object that is cut off: exit status {status}: {err}")
    for bad, words in (("/bin/false", "exit status 1"), (scratch / "none", "cannot be run"), ("/bin/true", "no code")):
        status, _, err = tools.compile(model.path, scratch / "bad.ingot", "--target=cuda:sm_90", f"--ptxas={bad}", *model.flags)
        if status != 1 or words not in err or (scratch / "bad.ingot").exists():
            return harness.fail(f"--ptxas={bad}: exit status {status}: {err}")
    return harness.ok()


def prepare(tools, where, models):
    cases = {name + suffix: (catalogue.MODELS[name], bool(suffix), name in QUICK) for name in models for suffix in ("", "-f16")}
    status, out, err = tools.call([tools.ingot, "list-devices", where[0]])
    if status != 0 or f"{where[0]}://" not in out:
        reason = " ".join((err or out).split())
        tests = {name: lambda scratch: harness.skip(f"no device: {reason}") for name in cases}
    else:
        tests = {name: lambda scratch, c=case: compare(tools, where, *c, scratch) for name, case in cases.items()}
    return tests, harness.hash_of(HERE / "models_agree.py", HERE.parent / "models/catalogue.py")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--networks", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--mock", action="store_true")
    chosen, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    name, models, where = "gpu-models", QUICK, ("vulkan", "vulkan:0?validation=1")
    if chosen.networks:
        name, models = "gpu-networks", [m for m in catalogue.MODELS if m not in QUICK + LARGE]
    elif chosen.large:
        name, models = "gpu-networks-large", LARGE
    elif chosen.mock:
        name, models, where = "gpu-models-cuda", MOCK, ("cuda", "cuda:0")

    def arrange(tools):
        if chosen.mock:
            os.environ["LD_LIBRARY_PATH"] = str(tools.build / "tests/mock")
        tests, hash_of_all = prepare(tools, where, models)
        if chosen.mock:
            early = "cuda:sm_90", "cuda:0?dependent=1"
            tests["face-front-cubin"] = lambda scratch: machine_code(tools, catalogue.MODELS["face-front"], scratch)
            tests["face-front-dependent"] = lambda scratch: compare(tools, early, catalogue.MODELS["face-front"], False, False, scratch)
        return tests, hash_of_all

    harness.run_suite(name, arrange, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
