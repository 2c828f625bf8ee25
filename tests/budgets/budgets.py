"""What may not grow: preprocessed lines of the public headers, load and first-run times, compile time, memory.

    .cache/venv/bin/python tests/budgets/budgets.py [--build=DIR]

Prints one row a budget: what was measured and its limit. Times are the best of several tries, as the limit is about
the work to do and not about what else the machine does.
"""
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np

MODELS = {
    "face": (harness.MODELS / "face_detection_back_256x256_barracuda.onnx", [],
             {"input:0": np.zeros((1, 256, 256, 3), np.float32)}),
    "magika": (harness.MODELS / "magika.onnx", ["--input-shape=bytes=1x2048"], {"bytes": np.zeros((1, 2048), np.int32)}),
    "rec": (harness.MODELS / "ch_PP-OCRv4_rec_infer.onnx", ["--input-shape=x=1x3x48x320"],
            {"x": np.zeros((1, 3, 48, 320), np.float32)}),
}


def limit(value, bound, unit):
    text = f"{value:.4g} {unit}, limit {bound:g}"
    return harness.ok(text) if value <= bound else harness.fail(text)


def header_lines(header, language, bound):
    compiler = ["gcc", "-x", "c", "-std=c11"] if language == "c" else ["g++", "-x", "c++", "-std=c++17"]
    done = subprocess.run([*compiler, "-E", "-P", "-I", str(harness.ROOT / "include"), "-"],
                          input=f"#include <ingot/{header}>\n".encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        return harness.fail(done.stderr.decode())
    return limit(sum(bool(l.strip()) for l in done.stdout.decode().splitlines()), bound, "lines")


def figure(report, key):
    """The figure `key` of `ingot bench --json` in ms, from key_ms, key_us or key_ns."""
    stack = [report]
    while stack:
        item = stack.pop()
        for name, value in item.items():
            if isinstance(value, dict):
                stack.append(value)
            for suffix, scale in (("_ms", 1), ("_us", 1e-3), ("_ns", 1e-6)):
                if name == key + suffix:
                    return value * scale
    raise RuntimeError(f"ingot bench --json has no {key}_ms, _us or _ns: {json.dumps(report)[:300]}")


class Budgets:
    def __init__(self, tools):
        self.tools, self.built = tools, {}
        self.folder = harness.CACHE / "tests" / "budgets"
        self.folder.mkdir(parents=True, exist_ok=True)

    def archive(self, name):
        if name not in self.built:
            path, flags, feeds = MODELS[name]
            archive = self.folder / f"{name}.ingot"
            status, out, err = self.tools.compile(path, archive, *flags)
            if status != 0:
                raise RuntimeError(f"aotc: exit status {status}: {err}")
            inputs = []
            for index, (key, array) in enumerate(feeds.items()):
                np.save(self.folder / f"{name}-{index}.npy", array)
                inputs.append(f"--input={key}=@{self.folder / f'{name}-{index}.npy'}")
            self.built[name] = (archive, inputs)
        return self.built[name]

    def bench(self, name):
        archive, inputs = self.archive(name)
        status, out, err = self.tools.call([self.tools.ingot, "bench", archive, "--json", "--threads=1", *inputs], 120)
        if status != 0:
            raise RuntimeError(f"ingot bench: exit status {status}: {err}")
        return json.loads(out)

    def load(self, name, bound=2.0):
        return limit(min(figure(r, "load") + figure(r, "prepare") for r in (self.bench(name) for _ in range(5))), bound,
                     "ms to load, verify and prepare")

    def first_run(self, name, bound=1.2):
        return limit(min(figure(r, "first_run") / figure(r, "median") for r in (self.bench(name) for _ in range(5))),
                     bound, "x the steady run")

    def compile_time(self, name, bound):
        best = None
        for _ in range(2):
            start = time.monotonic()
            path, flags, _ = MODELS[name]
            status, out, err = self.tools.compile(path, self.folder / "timed.ingot", *flags)
            if status != 0:
                return harness.fail(f"aotc: exit status {status}: {err}")
            best = min(best or 1e9, time.monotonic() - start)
            if best <= bound:
                break
        return limit(best, bound, "s to compile")


def prepare(tools):
    budgets = Budgets(tools)
    tests = {
        "header-c": lambda _: header_lines("ingot.h", "c", 500),
        "header-cpp": lambda _: header_lines("ingot.hpp", "c++", 1500),
        "header-driver": lambda _: header_lines("driver.h", "c", 500),
        "compile-face": lambda _: budgets.compile_time("face", 10),
        "load-face": lambda _: budgets.load("face"),
        "load-magika": lambda _: budgets.load("magika"),
        "first-run-face": lambda _: budgets.first_run("face"),
        "first-run-magika": lambda _: budgets.first_run("magika"),
        "first-run-rec": lambda _: budgets.first_run("rec"),
    }
    return tests, harness.hash_of(pathlib.Path(__file__))


if __name__ == "__main__":
    sys.argv.append("--jobs=1")
    harness.run_suite("budgets", prepare, lambda: {"numpy": np.__version__})
