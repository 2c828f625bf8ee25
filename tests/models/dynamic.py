"""Models with free dims: one archive each, right at any size, on one context that is prepared once.

    .cache/venv/bin/python tests/models/dynamic.py [--large] [--build=DIR] [--only='rec*'] [--full | --share=N]

PP-OCRv4 det and rec with free batch, height and width, a GPT-2-like decoding step with a free cache, a BERT-like encoder
with free batch and length, Swin-T with a free batch. The sizes are drawn from the commit and the day, primes among them;
the smallest comes first and, behind the largest, again. Every result is compared with ONNX Runtime's. Counted: a second run
at a size allocates nothing (Swin-T on Vulkan runs once), and an archive with a wider range has no more kernels. `MODEL-ranges` compiles for two ranges. The suite dynamic-large (--large) is what takes a software device most of an hour.
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import catalogue
import free_models
import harness
import numpy as np
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
WORK = harness.CACHE / "tests" / "dynamic"
FULL = "--full" in sys.argv
LARGE = {("swin", "vulkan")}
PRIMES = [p for p in range(2, 400) if all(p % q for q in range(2, p))]
SIZES = {"llvm-cpu": 20, "local-task": 4, "vulkan": 20 if FULL else 3}


def pick(rng, low, high, step=1):
    """A multiple of `step`, two times out of three a prime one."""
    primes = [p for p in PRIMES if low <= p <= high]
    return step * (int(rng.choice(primes)) if primes and rng.random() < 0.67 else int(rng.integers(low, high + 1)))


class Case:
    """feeds(size) for sizes drawn by draw(rng, scale); `flags` for a narrow and a wide range; `least`: the smallest size;
    `floor`: what differs by less is equal."""

    def __init__(self, path, least, draw, feeds, flags, wide, floor=0.0):
        self.path, self.least, self.draw, self.feeds, self.flags, self.wide, self.floor = path, least, draw, feeds, flags, wide, floor


def bert_feeds(size):
    batch, length = size
    rng = np.random.default_rng(length)
    mask = (np.arange(length)[None] < rng.integers(1, length + 1, (batch, 1))).astype(np.int64)
    return {"ids": rng.integers(0, free_models.WORDS, size), "mask": mask, "types": rng.integers(0, 2, size)}


def page(batch, height, width):
    """Where a page of text has most ink: a small corner of one is often blank, and shows nothing."""
    whole = catalogue.page((batch, 3, max(height, 160), max(width, 320)), 5)
    ink = lambda at: whole[0, 0, at[0]:at[0] + height, at[1]:at[1] + width].mean()
    top, left = min(((y, x) for y in range(0, whole.shape[2] - height + 1, 8) for x in range(0, whole.shape[3] - width + 1, 8)), key=ink)
    return np.ascontiguousarray(whole[:, :, top:top + height, left:left + width])


def gpt2_flags(past):
    return tuple(f"--input-shape=past_{part}_{layer}=1x8x{past}x64" for layer in range(6) for part in ("key", "value"))


def cases():
    models = catalogue.MODELS
    photos = lambda b: {"image": np.concatenate([catalogue.image((1, 3, 224, 224), i) for i in range(b)])}
    return {
        # det's neck adds what was halved five times: sides are multiples of 32
        "det": Case(models["det"].path, (1, 32, 32),
                    lambda r, s: (pick(r, 1, 1 + s // 5), pick(r, 1, 2 + s // 2, 32), pick(r, 1, 2 + s // 2, 32)),
                    lambda n: {"x": page(*n)},
                    ("--input-shape=x=1..64x3x32..1024x32..1024",), ("--input-shape=x=1..16x3x32..4096x32..4096",),
                    floor=1e-6),  # ONNX Runtime's sigmoid has steps of 1.5e-7 at 0
        "rec": Case(models["rec"].path, (1, 1), lambda r, s: (pick(r, 1, 1 + s // 4), pick(r, 1, 40 * s)),
                    lambda n: {"x": np.tanh(catalogue.image((n[0], 3, 48, n[1]), 5))},
                    ("--input-shape=x=1..64x3x48x1..2048",), ("--input-shape=x=?x3x48x?",)),
        "gpt2_step": Case(models["gpt2_step"].path, 1, lambda r, s: pick(r, 1, 35 * s), lambda n: catalogue.gpt2_step(n, 5),
                          gpt2_flags("1..1023"), ()),
        "bert": Case(free_models.build("bert", WORK), (1, 1), lambda r, s: (pick(r, 1, 1 + s // 2), pick(r, 1, 25 * s)), bert_feeds,
                     tuple(f"--input-shape={n}=1..64x1..512" for n in ("ids", "mask", "types")), ()),
        "swin": Case(free_models.build("swin", WORK), 1, lambda r, s: pick(r, 1, 1 + s // 4), photos,
                     ("--input-shape=image=1..64x3x224x224",), ()),
    }


def sizes_of(case, count, seed, scale):
    rng = np.random.default_rng(seed)
    drawn = [case.draw(rng, scale) for _ in range(count - 2)]
    return [case.least, *drawn, case.least]


def compare(tools, name, case, target, device, count, scale, seed, scratch):
    archive = scratch / "model.ingot"
    status, _, err = tools.compile(case.path, archive, f"--target={target}", *case.flags, timeout=1200)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(case.path), options, providers=["CPUExecutionProvider"])
    names, order = [o.name for o in session.get_outputs()], [i.name for i in session.get_inputs()]
    sizes, folders, expected = sizes_of(case, count, seed, scale), [], []
    for i, size in enumerate(sizes):
        folder = scratch / str(i)
        folder.mkdir()
        feeds = case.feeds(size)
        for k, feed in enumerate(order):
            np.save(folder / f"in{k}.npy", feeds[feed])
        folders.append(folder)
        expected.append(session.run(names, feeds))
    runs = ["--runs=0"] if name == "swin" and target == "vulkan" else []  # minutes each on a software device
    status, out, err = tools.call([tools.build / "tests/models/run_sizes", archive, device, *runs, *folders], timeout=6000)
    if status != 0:
        return harness.fail(f"run_sizes: exit status {status}: {err}; sizes {sizes}")
    worst, shown = 0.0, 0
    for size, folder, references, line in zip(sizes, folders, expected, out.splitlines()):
        if json.loads(line)["allocations"]:
            return harness.fail(f"size {size}: {json.loads(line)['allocations']} allocations in a second run")
        for k, reference in enumerate(references):
            result = np.load(folder / f"out{k}.npy")
            near = result.shape == reference.shape and np.abs(result - reference) <= case.floor
            wrong = harness.agrees(np.where(near, reference, result), reference, proves=False)
            if wrong:
                return harness.fail(f"size {size}: {names[k]}: {wrong}; seed {seed}")
            shown += k == 0 and len(np.unique(reference)) > 1
            worst = max(worst, float(np.abs(result - reference).max() / max(case.floor, np.abs(reference).max(), 1e-30)))
    if 2 * shown < len(sizes) - 2:  # det finds nothing in its smallest picture
        return harness.fail(f"only {shown} of {len(sizes)} references are not constant; {sizes}")
    return harness.ok(f"{len(sizes)} sizes, worst error / peak {worst:.1e}; {sizes}")


def kernels(tools, case, flags, scratch):
    archive = scratch / "model.ingot"
    status, _, err = tools.compile(case.path, archive, "-O0", *flags, timeout=1200)
    if status != 0:
        raise RuntimeError(f"aotc {' '.join(flags)}: exit status {status}: {err}")
    status, out, err = tools.call([tools.ingot, "inspect", "--json", archive])
    return json.loads(out)["kernel_count"]


def ranges(tools, case, scratch):
    narrow, wide = (kernels(tools, case, f, scratch) for f in (case.flags, case.wide))
    return harness.ok(f"{narrow} kernels") if narrow == wide else harness.fail(f"{narrow} kernels, with a wider range {wide}")


def prepare(tools, large):
    seed = harness.daily_share(10**6)
    status, out, _ = tools.call([tools.ingot, "list-devices", "vulkan"])
    vulkan = status == 0 and out.strip()
    tests = {}
    for name, case in cases().items():
        for target, device, kind, scale in (("llvm-cpu", "local-sync", "llvm-cpu", 10), ("llvm-cpu", "local-task://0?threads=2", "local-task", 10),
                                            ("vulkan", harness.DEVICES["vulkan"], "vulkan", 4)):
            if ((name, kind) in LARGE) != large or kind == "vulkan" and not vulkan:
                continue
            tests[f"{name}-{kind}"] = lambda scratch, n=name, c=case, t=target, d=device, k=kind, s=scale: compare(
                tools, n, c, t, d, SIZES[k], s, seed, scratch)
        if case.flags != case.wide and name != "swin" and not large:
            tests[f"{name}-ranges"] = lambda scratch, c=case: ranges(tools, c, scratch)
    scripts = [HERE / name for name in ("dynamic.py", "catalogue.py", "free_models.py")]
    return tests, harness.hash_of(*scripts, *(harness.versions()[n] for n in ("ONNXRUNTIME_VERSION", "NUMPY_VERSION", "OCR_MODELS_VERSION")))


if __name__ == "__main__":
    large = "--large" in sys.argv
    sys.argv = [a for a in sys.argv if a != "--large"]
    harness.run_suite("dynamic-large" if large else "dynamic", lambda tools: prepare(tools, large), lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
