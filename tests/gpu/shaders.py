"""What gpu_msl.py, gpu_wgsl.py and gpu_archive.py share: kernels of whole models as text, and whole runs on the test drivers of
shader_driver.h, which build/tests/gpu/ingot_shaders has beside the usual ones."""
import re
import sys
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "models")]
import catalogue
import harness
import networks_agree
import numpy as np

SHIM_CXX = "clang++-19"
# What the outcome of these suites rests on beside the code under test.
SOURCES = [HERE / name for name in ("shaders.py", "shader_driver.cpp", "metal_shim.cpp", "dawn_driver.cpp", "dawn_server.mjs",
                                    "msl_check.py", "msl/allowed.txt", "msl/metal_stdlib")] + [HERE.parent / "models/catalogue.py"]
HEAD = re.compile(r"^// (\w+)\n", re.M)  # what `--emit` puts before each kernel


def all_models():
    """name: (file, flags): every model of the catalogue, and two with free dims."""
    found = {name: (model.path, model.flags) for name, model in catalogue.MODELS.items()}
    found.update({name: (model.path, flags) for name, (model, flags, _) in networks_agree.free_models().items()})
    return found


def kernels(tools, name, target, form, folder):
    """{kernel: text} of a model, or an Outcome that says why not."""
    path, flags = all_models()[name]
    status, _, err = tools.call([tools.aotc, path, f"--target={target}", f"--emit={form}", "-o", folder / "text", "--progress=off",
                                 *flags], timeout=300)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    parts = HEAD.split((folder / "text").read_text())
    found = dict(zip(parts[1::2], parts[2::2]))
    return found or harness.fail("no kernels in the text")


def with_drivers(tools):
    """The tools with `ingot` replaced by the one that has the test drivers; None where the build has none."""
    program = tools.build / "tests/gpu/ingot_shaders"
    if not program.exists():
        return None
    other = harness.Tools(tools.build)
    other.ingot = program
    return other


def missing(tools, driver):
    """Why the driver cannot run here, or ''."""
    if tools is None:
        return "this build has no drivers with device memory (-Ddrivers=...,vulkan)"
    status, out, err = tools.call([tools.ingot, "list-devices", driver])
    return "" if status == 0 and f"{driver}://" in out else " ".join((err or out).split()) or "no device"


def agrees_in_half(actual, reference):
    return harness.agrees(actual, reference, relative=0, of_peak=1e-2)


def compare(tools, archive, model, device, scratch, timeout=500, agrees=harness.agrees):
    """(the worst error over the peak, '') of a run against ONNX Runtime, or (None, what is wrong)."""
    feeds = model.feeds(1)
    [expected] = networks_agree.reference(model, [feeds])
    outputs, status, err = tools.run(archive, feeds, list(expected), scratch, f"--device={device}", timeout=timeout)
    if outputs is None:
        return None, f"{device}: ingot run: exit status {status}: {err}"
    worst = 0.0
    for output, value in expected.items():
        if wrong := agrees(outputs[output], value):
            return None, f"{device}: {output}: {wrong}"
        worst = max(worst, float(np.abs(outputs[output] - value).max() / np.abs(value).max()))
    return worst, ""


HALF = ",precision=f16"
HALVES = ("cls", "face-front", "rec", "mobilenet_v3_large")


def whole_run(tools, name, target, device, scratch):
    model = catalogue.MODELS[name]
    archive = scratch / "model.ingot"
    status, _, err = tools.compile(model.path, archive, f"--target={target}", *model.flags, timeout=300)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    worst, wrong = compare(tools, archive, model, device, scratch, agrees=agrees_in_half if target.endswith(HALF) else harness.agrees)
    return harness.fail(wrong) if wrong else harness.ok(f"worst error / peak {worst:.1e}")
