"""PP-OCRv4 rec, BlazeFace 256 and magika: compiled by aotc, run, and compared with ONNX Runtime.

    .cache/venv/bin/python tests/models/models.py [--build=DIR] [--only='rec*'] [--full | --share=N]

Random inputs (seeded) and real ones: photographs, rendered lines of text, files of this repository. The rule is
docs' *agrees*: |a-r| <= 1e-3 |r| + 1e-4 max|r|, and a reference that is constant or not finite fails. What the model
means is checked too: the text read is the sentence rendered, the file type is the right one, the face is found.
The recogniser is also compiled once with a free width and run at five widths drawn at test time.
"""
import json
import pathlib
import random
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
REC = harness.MODELS / "ch_PP-OCRv4_rec_infer.onnx"
FACE = harness.MODELS / "face_detection_back_256x256_barracuda.onnx"
MAGIKA = harness.MODELS / "magika.onnx"
WORK = harness.CACHE / "tests" / "models"

# (model, flags): each compiled once for all its tests
COMPILATIONS = {
    "rec": (REC, ["--input-shape=x=1x3x48x320"]),
    "rec-free": (REC, ["--input-shape=x=1x3x48x16..2048"]),
    "face": (FACE, []),
    "magika": (MAGIKA, ["--input-shape=bytes=1x2048"]),
    "magika-free": (MAGIKA, ["--input-shape=bytes=1..16x2048"]),
}
# The same as bytecode, and both targets in one archive (of which a CPU takes native code).
COMPILATIONS |= {f"{name}-vmvx": (model, [*flags, "--target=vmvx"]) for name, (model, flags) in COMPILATIONS.items()}
COMPILATIONS["face-both"] = (FACE, ["--target=llvm-cpu", "--target=vmvx"])


class Compiled:
    """Archives and ONNX Runtime sessions, made on first use and shared by the tests."""

    def __init__(self, tools):
        self.tools, self.lock, self.archives, self.sessions = tools, threading.Lock(), {}, {}
        WORK.mkdir(parents=True, exist_ok=True)

    def archive(self, name):
        with self.lock:
            if name not in self.archives:
                model, flags = COMPILATIONS[name]
                path = WORK / f"{name}.ingot"
                path.unlink(missing_ok=True)
                start = time.monotonic()
                status, out, err = self.tools.compile(model, path, *flags)
                self.archives[name] = (path if status == 0 else None,
                                       f"aotc: exit status {status}: {err}" if status else
                                       f"{time.monotonic() - start:.1f} s")
            return self.archives[name]

    def reference(self, model, feeds):
        with self.lock:
            if model not in self.sessions:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                options.log_severity_level = 3
                self.sessions[model] = onnxruntime.InferenceSession(str(model), options,
                                                                    providers=["CPUExecutionProvider"])
            session = self.sessions[model]
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds)))

    def compare(self, name, feeds, scratch, meaning=None, device=None):
        """One run of both; `meaning` judges Ingot's outputs and returns what is wrong with them, or None."""
        archive, note = self.archive(name)
        if archive is None:
            return harness.fail(note)
        expected = self.reference(COMPILATIONS[name][0], feeds)
        outputs, status, err = self.tools.run(archive, feeds, list(expected), scratch,
                                             *([f"--device={device}"] if device else []))
        if outputs is None:
            return harness.fail(f"ingot run: exit status {status}: {err}")
        worst = 0.0
        for output, value in expected.items():
            wrong = harness.agrees(outputs[output], value)
            if wrong:
                return harness.fail(f"{output}: {wrong}")
            worst = max(worst, float(np.abs(outputs[output] - value).max() / np.abs(value).max()))
        wrong = meaning(outputs) if meaning else None
        return harness.fail(wrong) if wrong else harness.ok(f"worst error / peak {worst:.1e}")


def read_text(scores):
    """CTC: the best class of each step, repeats merged, class 0 (blank) dropped; the last class is the space."""
    keys = (harness.MODELS / "ppocr_keys_v1.txt").read_text(encoding="utf-8").split("\n")
    if keys and keys[-1] == "":
        keys.pop()
    classes = [""] + keys + [" "]
    best = scores[0].argmax(axis=1)
    return "".join(classes[c] for i, c in enumerate(best) if c and (i == 0 or best[i - 1] != c))


def says(sentence):
    def judge(outputs):
        text = read_text(next(iter(outputs.values())))
        plain = lambda s: re.sub(r"\s+", "", s)
        return None if plain(text) == plain(sentence) else f"read '{text}', the picture says '{sentence}'"
    return judge


def finds_face(outputs):
    """BlazeFace's first two outputs are the logits of its 512 + 384 anchors."""
    best = max(float(v.max()) for n, v in outputs.items() if v.shape[-1] == 1)
    return None if best > 0 else f"no face: best logit {best:.2f}"


def magika_features(data, config):
    block = config["block_size"]
    begin = data[:block].lstrip()[:config["beg_size"]]
    end = data[-block:].rstrip()[-config["end_size"]:]
    pad = config["padding_token"]
    row = list(begin) + [pad] * (config["beg_size"] - len(begin))
    row += [pad] * (config["end_size"] - len(end)) + list(end)
    return np.array([row], np.int32)


def is_type(label, config):
    def judge(outputs):
        scores = next(iter(outputs.values()))[0]
        found = config["target_labels_space"][int(scores.argmax())]
        return None if found == label else f"says {found}, it is {label}"
    return judge


def prepare(tools):
    compiled = Compiled(tools)
    real = WORK / "inputs"
    subprocess.run(["/usr/bin/python3", HERE / "real_inputs.py", real], check=True)
    config = json.loads((harness.MODELS / "magika_config.json").read_text())
    tests = {}

    def add(test, name, make_feeds, meaning=None):
        tests[test] = lambda scratch: compiled.compare(name, make_feeds(), scratch, meaning)
        tests[f"{test}-vmvx"] = lambda scratch: compiled.compare(f"{name}-vmvx", make_feeds(), scratch, meaning)

    def random_image(shape, seed):
        return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)

    for seed in range(3):
        add(f"rec-random-{seed}", "rec", lambda s=seed: {"x": random_image((1, 3, 48, 320), s)})
        add(f"face-random-{seed}", "face", lambda s=seed: {"input:0": random_image((1, 256, 256, 3), s)})
        add(f"magika-random-{seed}", "magika", lambda s=seed: {
            "bytes": np.random.default_rng(s).integers(0, 257, (1, 2048), np.int32)})
        add(f"magika-batch-{seed}", "magika-free", lambda s=seed: {
            "bytes": np.random.default_rng(s).integers(0, 257, (2 + 3 * s, 2048), np.int32)})
    for path in sorted(real.glob("line-*.npy")):
        index = path.stem.split("-")[1]
        sentence = (real / f"line-{index}.txt").read_text()
        add(f"rec-line-{index}", "rec-free", lambda p=path: {"x": np.load(p)}, says(sentence))
        add(f"rec-fixed-{index}", "rec", lambda p=real / f"fixed-{index}.npy": {"x": np.load(p)},
            says(sentence))
    for path in sorted(real.glob("face-*.npy")):
        add(path.stem, "face", lambda p=path: {"input:0": np.load(p)}, finds_face if "astronaut" in path.stem else None)
    for file, label in (("tools/setup.sh", "shell"), ("tests/lib/harness.py", "python"), ("docs/models.md", "markdown"),
                        ("include/ingot/ingot.h", "c"), ("README.md", "markdown")):
        path = harness.ROOT / file
        if path.exists():
            add(f"magika-file-{path.name}", "magika",
                lambda p=path: {"bytes": magika_features(p.read_bytes(), config)}, is_type(label, config))
    picture = real / "0.png"
    add("magika-file-png", "magika", lambda: {"bytes": magika_features(picture.read_bytes(), config)},
        is_type("png", config))

    # Free width: five widths that nobody knew when the archive was compiled.
    seed = time.time_ns() % 10**6
    for number, width in enumerate(random.Random(seed).sample(range(16, 640), 5)):
        add(f"rec-width-{number}", "rec-free", lambda w=width, s=seed: {"x": random_image((1, 3, 48, w), s)})

    tests["face-both"] = lambda scratch: compiled.compare(
        "face-both", {"input:0": random_image((1, 256, 256, 3), 1)}, scratch, None)
    # Without any CPU feature the native code is refused, so the bytecode of the same archive runs.
    tests["face-both-vmvx"] = lambda scratch: compiled.compare(
        "face-both", {"input:0": random_image((1, 256, 256, 3), 1)}, scratch, None, "local-sync://0?features=0x0")

    def kernels_of_free_width(scratch):
        # Versions for one point, few and many (aotc/fuse/specialise_sizes.h), of which most come out as the same kernel.
        counts = {}
        for name in ("rec", "rec-free"):
            archive, note = compiled.archive(name)
            if archive is None:
                return harness.fail(note)
            status, out, err = tools.call([tools.ingot, "inspect", "--json", archive])
            if status != 0:
                return harness.fail(f"ingot inspect: exit status {status}: {err}")
            counts[name] = kernel_count(json.loads(out))
        if not 0 < counts["rec"] < counts["rec-free"] < 2 * counts["rec"]:
            return harness.fail(f"{counts['rec']} kernels at a fixed width, {counts['rec-free']} at a free one")
        return harness.ok(f"{counts['rec']} kernels at a fixed width, {counts['rec-free']} at a free one (seed of the widths: {seed})")

    tests["rec-free-kernel-count"] = kernels_of_free_width
    here = pathlib.Path(__file__)
    return tests, harness.hash_of(here, HERE / "real_inputs.py", REC, FACE, MAGIKA, onnxruntime.__version__)


def kernel_count(inspected):
    """Number of entry points that `ingot inspect --json` lists."""
    if "kernel_count" in inspected:
        return inspected["kernel_count"]
    if "kernels" in inspected:
        return len(inspected["kernels"])
    return sum(len(e.get("kernels", e.get("entry_points", []))) for e in inspected.get("executables", []))


if __name__ == "__main__":
    harness.run_suite("models", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
