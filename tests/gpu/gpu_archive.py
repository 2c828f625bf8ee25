"""One archive with code for five targets; the same file runs on the CPU, on Vulkan, and on the two drivers for tests.

    .cache/venv/bin/python tests/gpu/gpu_archive.py [--build=DIR] [--only='face-front-vulkan']

Of BlazeFace, each result against ONNX Runtime. What the file says of itself (`ingot explain`) is held as well: every device
takes the variant that is meant for it.
"""
import json
import pathlib
import tempfile
import threading

import shaders  # first: it knows where the other modules lie
import catalogue
import harness
import numpy as np
import onnxruntime

MODEL = "face-front"
TARGETS = ("llvm-cpu", "vmvx", "vulkan-spirv", "metal", "webgpu")
DEVICES = {"local-sync": "llvm-cpu", "local-task": "llvm-cpu", "vulkan": "vulkan-spirv", "metal-shim": "metal", "dawn": "webgpu"}


class Shared:
    """The archive, made by the first test that needs it."""

    def __init__(self, tools, folder):
        self.tools, self.folder, self.lock = tools, folder, threading.Lock()
        self.done = None

    def get(self):
        """(path, '') or (None, what is wrong)."""
        with self.lock:
            if self.done is None:
                model, archive = catalogue.MODELS[MODEL], self.folder / "five.ingot"
                status, _, err = self.tools.compile(model.path, archive, *(f"--target={t}" for t in TARGETS), *model.flags)
                self.done = (archive, "") if status == 0 else (None, f"aotc: exit status {status}: {err}")
            return self.done


def contents(tools, shared):
    archive, wrong = shared.get()
    if wrong:
        return harness.fail(wrong)
    status, out, err = tools.call([tools.ingot, "inspect", "--json", archive])
    if status != 0:
        return harness.fail(f"ingot inspect: exit status {status}: {err}")
    found = [v["target"] for v in json.loads(out)["variants"]]
    if found != list(TARGETS):
        return harness.fail(f"variants {found}")
    status, _, err = tools.call([tools.ingot, "verify", "--hash", archive])
    return harness.ok(f"{archive.stat().st_size} bytes") if status == 0 else harness.fail(f"ingot verify: {err}")


def explained(drivers, shared, driver):
    """'' where the device takes the variant of its target and refuses those of the others."""
    status, out, err = drivers.call([drivers.ingot, "explain", shared.get()[0]])
    if status != 0:
        return f"ingot explain: exit status {status}: {err}"
    variant, verdicts = None, {}
    for line in out.splitlines():
        if line.startswith("variant "):
            variant = line.split(": ", 1)[1].split()[0]
        elif line.strip().startswith(driver + "://"):
            verdicts[variant] = line.split(": ", 1)[1]
    expected = {t: t == DEVICES[driver] or (t == "vmvx" and driver.startswith("local-")) for t in TARGETS}
    taken = {t: v.startswith("accepted") for t, v in verdicts.items()}
    return "" if taken == expected else f"{driver} takes {verdicts}"


def run(drivers, shared, driver, scratch):
    archive, wrong = shared.get()
    wrong = wrong or explained(drivers, shared, driver)
    if wrong:
        return harness.fail(wrong)
    worst, wrong = shaders.compare(drivers, archive, catalogue.MODELS[MODEL], f"{driver}:0", scratch)
    return harness.fail(wrong) if wrong else harness.ok(f"worst error / peak {worst:.1e}")


def bytecode(drivers, scratch):
    """The variant of vmvx is the CPU's second choice: an archive of the others shows that it is that one's code."""
    model = catalogue.MODELS[MODEL]
    archive = scratch / "four.ingot"
    status, _, err = drivers.compile(model.path, archive, *(f"--target={t}" for t in TARGETS[1:]), *model.flags)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    worst, wrong = shaders.compare(drivers, archive, model, "local-sync:0", scratch)
    return harness.fail(wrong) if wrong else harness.ok(f"worst error / peak {worst:.1e}")


def prepare(tools, folder):
    drivers, shared = shaders.with_drivers(tools), Shared(tools, folder)
    tests = {f"{MODEL}-contents": lambda scratch: contents(tools, shared)}
    tests[f"{MODEL}-vmvx"] = lambda scratch: bytecode(drivers or tools, scratch)
    for driver in DEVICES:
        if reason := shaders.missing(drivers, driver):
            tests[f"{MODEL}-{driver}"] = lambda scratch, r=reason: harness.skip(r)
        else:
            tests[f"{MODEL}-{driver}"] = lambda scratch, d=driver: run(drivers, shared, d, scratch)
    return tests, harness.hash_of(shaders.HERE / "gpu_archive.py", *shaders.SOURCES)


if __name__ == "__main__":
    shared_folder = pathlib.Path(tempfile.mkdtemp(prefix="ingot-five-"))
    harness.run_suite("gpu-archive", lambda tools: prepare(tools, shared_folder),
                      lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}, scratch=shared_folder)
