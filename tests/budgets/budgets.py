"""What may not grow, as counts: preprocessed lines of the public headers, page faults of a first run.

    .cache/venv/bin/python tests/budgets/budgets.py [--build=DIR]

Prints one row a budget: what was counted and its limit. Times are measured by benchmarks/budgets.py, alone on a machine.
"""
import json
import pathlib
import subprocess
import sys

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

    def first_run_faults(self, name):
        """A first run finds its memory present: only weights and code come in, by the kernel's 64 KiB steps."""
        archive, _ = self.archive(name)
        return limit(self.bench(name)["first_run_page_faults"], 32 + archive.stat().st_size // 65536, "page faults")


def prepare(tools):
    budgets = Budgets(tools)
    tests = {
        "header-c": lambda _: header_lines("ingot.h", "c", 500),
        "header-cpp": lambda _: header_lines("ingot.hpp", "c++", 1500),
        "header-driver": lambda _: header_lines("driver.h", "c", 500),
        "header-values-c": lambda _: header_lines("values.h", "c", 500),
        "header-values-cpp": lambda _: header_lines("values.hpp", "c++", 1500),
        "header-vulkan": lambda _: header_lines("vulkan.h", "c", 500),
        **{f"first-run-faults-{name}": (lambda _, n=name: budgets.first_run_faults(n)) for name in MODELS},
    }
    return tests, harness.hash_of(pathlib.Path(__file__))


if __name__ == "__main__":
    sys.argv.append("--jobs=1")
    harness.run_suite("budgets", prepare, lambda: {"numpy": np.__version__})
