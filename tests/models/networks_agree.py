"""Every model of catalogue.py agrees with ONNX Runtime: every target that aotc can make, every driver that runs it.

    .cache/venv/bin/python tests/models/networks_agree.py [--build=DIR] [--only='resnet50*'] [--full | --share=N]

A test is one model on one target: compiled once, then run on seeded random inputs on each driver, with one thread and
with two where the driver has threads; all of them must give the very same bits. `MODEL-free` leaves dims open at
compile time and takes sizes drawn at test time. Two counts are held as well: a run allocates nothing, and the layers of
a deep network share their kernels.
"""
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import catalogue
import harness
import numpy as np
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = (1, 2, 3)
# Most kernels that these may have, with room for other fusions: their 56 to 136 dispatches are mostly alike.
KERNELS = {"bert_base": 18, "minilm": 20, "vit_b_16": 24, "gpt2_step": 24, "resnet50": 42, "convnext_tiny": 50}


def free_models():
    """name: (model, aotc's flags, generator -> feeds): dims that nobody knew when the archive was compiled."""
    models = catalogue.MODELS
    sizes = lambda rng, low, high: 32 * int(rng.integers(low, high + 1))
    return {
        "det-free": (models["det"], ("--input-shape=x=1x3x32..1024x32..1024",),
                     lambda rng: {"x": catalogue.page((1, 3, sizes(rng, 3, 12), sizes(rng, 3, 12)), 5)}),
        "gpt2_step-free": (models["gpt2_step"], (), lambda rng: catalogue.gpt2_step(int(rng.integers(1, 300)), 5)),
    }


def targets(tools):
    """Of those whose code runs on the CPU, what this aotc makes."""
    status, out, err = tools.call([tools.aotc, "--list-targets"])
    if status != 0:
        raise SystemExit(f"aotc --list-targets: {err}")
    states = {line.split()[0]: line.split(None, 2)[2] for line in out.splitlines()}
    return [t for t in ("llvm-cpu", "vmvx") if states.get(t, "").startswith("available")]


def devices(tools):
    status, out, err = tools.call([tools.ingot, "list-drivers"])
    if status != 0:
        raise SystemExit(f"ingot list-drivers: {err}")
    drivers = {line.split(":")[0] for line in out.splitlines()}
    return ["local-sync"] + (["local-task://0?threads=1", "local-task://0?threads=2"] if "local-task" in drivers else [])


def reference(model, feeds_list):
    """{output: value} for each of the feeds. The session goes away with the call: it may hold a gigabyte."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return [dict(zip(names, session.run(names, feeds))) for feeds in feeds_list]


def telling(model, draw, rng):
    """Feeds of which the reference makes something: a detector that finds nothing gives values as small as the reference's
    own error, which cuts off what a sigmoid makes of less than about -16."""
    for _ in range(30):
        feeds = draw(rng)
        if min(np.abs(value).max() for value in reference(model, [feeds])[0].values()) >= 1e-2:
            return feeds
    raise RuntimeError(f"{model.name}: 30 inputs of which the reference makes nothing")


def compare(tools, model, flags, target, all_devices, feeds_list, scratch, most_kernels=None):
    archive = scratch / "model.ingot"
    status, _, err = tools.compile(model.path, archive, f"--target={target}", *flags, timeout=900)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    worst = 0.0
    for feeds, expected in zip(feeds_list, reference(model, feeds_list)):
        first = None
        for device in all_devices:
            outputs, status, err = tools.run(archive, feeds, list(expected), scratch, f"--device={device}", timeout=300)
            if outputs is None:
                return harness.fail(f"{device}: ingot run: exit status {status}: {err}")
            for output, value in expected.items():
                wrong = harness.agrees(outputs[output], value)
                if wrong:
                    return harness.fail(f"{device}: {output}: {wrong}")
                worst = max(worst, float(np.abs(outputs[output] - value).max() / np.abs(value).max()))
            if first and any(first[name].tobytes() != outputs[name].tobytes() for name in first):
                return harness.fail(f"{device}: other bits than {all_devices[0]}")
            first = outputs
    status, out, err = tools.call([tools.ingot, "inspect", "--json", archive])
    kernels = json.loads(out)["kernel_count"] if status == 0 else None
    if kernels is None:
        return harness.fail(f"ingot inspect: exit status {status}: {err}")
    if most_kernels and kernels > most_kernels:
        return harness.fail(f"{kernels} kernels, at most {most_kernels} are expected: are equal ones compiled once?")
    status, out, err = tools.call([tools.ingot, "bench", "--json", "--runs=3", archive,
                                   *(f"--input={n}=@{scratch}/in{i}.npy" for i, n in enumerate(feeds_list[-1]))])
    if status != 0:
        return harness.fail(f"ingot bench: exit status {status}: {err}")
    report = json.loads(out)
    if report["allocations_per_run"] != 0:
        return harness.fail(f"{report['allocations_per_run']} allocations a run")
    held = report["process_resident_bytes"] - report["process_empty_bytes"]
    if not 0 < report["arena_bytes"] <= held <= report["process_peak_bytes"]:
        return harness.fail(f"{held} bytes resident above an empty process, with an arena of {report['arena_bytes']}")
    return harness.ok(f"{len(feeds_list)} inputs on {', '.join(all_devices)}; worst error / peak {worst:.1e}; "
                      f"{kernels} kernels")


def prepare(tools):
    missing = [m.name for m in catalogue.MODELS.values() if not m.path.exists()]
    if missing:
        raise SystemExit(f"models are missing, run tools/setup.sh models: {', '.join(missing)}")
    all_devices, tests = devices(tools), {}
    for target in targets(tools):
        suffix = "" if target == "llvm-cpu" else f"-{target}"
        for name, model in catalogue.MODELS.items():
            tests[name + suffix] = lambda scratch, m=model, t=target: compare(
                tools, m, m.flags, t, all_devices, [m.feeds(s) for s in SEEDS], scratch, KERNELS.get(m.name))
        for name, (model, flags, draw) in free_models().items():
            seed = time.time_ns() % 10**6

            def free(scratch, m=model, f=flags, d=draw, t=target, s=seed):
                feeds = [telling(m, d, np.random.default_rng(s + i)) for i in range(3)]
                outcome = compare(tools, m, f, t, all_devices, feeds, scratch)
                outcome.reason += f"; seed of the sizes {s}"
                return outcome

            tests[name + suffix] = free
    scripts = [HERE / name for name in ("networks_agree.py", "catalogue.py", "export_models.py", "networks.py")]
    pins = harness.versions()
    packages = ("ONNXRUNTIME_VERSION", "NUMPY_VERSION", "OCR_MODELS_VERSION", "BLAZEFACE_VERSION", "MAGIKA_VERSION")
    return tests, harness.hash_of(*scripts, *(pins[name] for name in packages))


if __name__ == "__main__":
    harness.run_suite("networks", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
