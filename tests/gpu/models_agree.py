"""Whole models on Vulkan, as this machine has it, agree with ONNX Runtime; the validation layer is on, and any message fails.

    .cache/venv/bin/python tests/gpu/models_agree.py [--build=DIR] [--only='cls*']

A run is one submission and allocates nothing. Models whose run takes minutes on a software device are left to
run_on_device.py, on hardware.
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "models")]
import catalogue
import harness
import networks_agree
import numpy as np
import onnxruntime

MODELS = ("cls", "face-front", "face-back", "magika", "rec", "bilstm_gru", "shufflenet_v2")


def compare(tools, model, scratch):
    archive = scratch / "model.ingot"
    status, _, err = tools.compile(model.path, archive, "--target=vulkan", *model.flags, timeout=600)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    feeds = model.feeds(1)
    [expected] = networks_agree.reference(model, [feeds])
    outputs, status, err = tools.run(archive, feeds, list(expected), scratch, "--device=vulkan:0?validation=1", timeout=300)
    if outputs is None:
        return harness.fail(f"ingot run: exit status {status}: {err}")
    worst = 0.0
    for output, value in expected.items():
        wrong = harness.agrees(outputs[output], value)
        if wrong:
            return harness.fail(f"{output}: {wrong}")
        worst = max(worst, float(np.abs(outputs[output] - value).max() / np.abs(value).max()))
    status, out, err = tools.call([tools.ingot, "bench", "--json", "--runs=2", archive, "--device=vulkan:0",
                                   *(f"--input={n}=@{scratch}/in{i}.npy" for i, n in enumerate(feeds))], timeout=300)
    if status != 0:
        return harness.fail(f"ingot bench: exit status {status}: {err}")
    if (count := json.loads(out)["allocations_per_run"]) != 0:
        return harness.fail(f"{count} allocations a run")
    return harness.ok(f"worst error / peak {worst:.1e}")


def prepare(tools):
    status, out, err = tools.call([tools.ingot, "list-devices", "vulkan"])
    if status != 0 or "vulkan://" not in out:
        reason = " ".join((err or out).split())
        tests = {name: lambda scratch: harness.skip(f"no Vulkan device: {reason}") for name in MODELS}
    else:
        tests = {name: lambda scratch, m=catalogue.MODELS[name]: compare(tools, m, scratch) for name in MODELS}
    return tests, harness.hash_of(HERE / "models_agree.py", HERE.parent / "models/catalogue.py")


if __name__ == "__main__":
    harness.run_suite("gpu-models", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
