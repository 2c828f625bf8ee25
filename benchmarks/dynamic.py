"""Archives with free dims beside archives compiled for one size: a line a model and size.

    .cache/venv/bin/python benchmarks/dynamic.py [--only='rec*'] [--rounds=7] [--runs=20] [--target=llvm-cpu]
        [--device=local-sync] [--build=build]

The ratio is that of medians over alternating rounds, each a process of its own; beside it the 10-90 % band of the rounds'
ratios, and the cost of meeting a size: first run less the steady one, of a context that ran another size before. Bars: a
ratio of 1.3, on GPUs 1.5, at the smallest size too, and 1 ms for a new size. To be run alone on a machine. GPU drivers keep
their code in a folder of the benchmark's. Models whose file is not there are left out, by name.
"""
import argparse
import fnmatch
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "tests/models")]
import dynamic
import harness
import numpy as np

# The smallest size, two small ones and a usual one.
SIZES = {"det": [(1, 32, 32), (1, 96, 160), (1, 320, 320)], "rec": [(1, 1), (1, 37), (1, 320), (5, 101)],
         "gpt2_step": [1, 31, 128, 509], "bert": [(1, 1), (1, 17), (1, 128), (3, 61)], "swin": [1, 3]}


def fixed_flags(name, case, size):
    shapes = {k: v.shape for k, v in case.feeds(size).items()}
    free = {flag.split("=")[1] for flag in case.flags}
    return [f"--input-shape={k}=" + "x".join(map(str, shapes[k])) for k in shapes if k in free]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--target", default="llvm-cpu")
    parser.add_argument("--device", default="local-sync")
    parser.add_argument("--build", default=str(ROOT / "build"))
    args = parser.parse_args()
    tools = harness.Tools(args.build)
    program = tools.build / "tests/models/run_sizes"

    def times(archive, folders):
        done = subprocess.run([program, archive, args.device, f"--runs={args.runs}", "--own-allocator", *folders], check=True, stdout=subprocess.PIPE)
        return [json.loads(line) for line in done.stdout.decode().splitlines()]

    print(f"{'model':10} {'size':>14} {'free ms':>9} {'fixed ms':>9} {'ratio':>6} {'band':>12} {'new size ms':>11}")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = pathlib.Path(temporary)
        if not args.device.startswith("local"):
            (scratch / "code").mkdir()
            args.device += f"?cache={scratch / 'code'}"
        for name, case in dynamic.cases().items():
            sizes = [s for s in SIZES[name] if fnmatch.fnmatch(name, args.only)]
            if not sizes:
                continue
            if not case.path.exists():
                print(f"# {name}: {case.path.name} is not here")
                continue
            free = scratch / f"{name}.ingot"
            status, _, err = tools.compile(case.path, free, f"--target={args.target}", *case.flags, timeout=1200)
            if status != 0:
                raise SystemExit(err)
            folders = {}
            for size in {*sizes, case.least}:
                folders[size] = scratch / f"{name}-{size}".replace(" ", "")
                folders[size].mkdir()
                for i, (_, array) in enumerate(case.feeds(size).items()):
                    np.save(folders[size] / f"in{i}.npy", array)
            for size in sizes:
                fixed = scratch / "fixed.ingot"
                status, _, err = tools.compile(case.path, fixed, f"--target={args.target}", *fixed_flags(name, case, size), timeout=1200)
                if status != 0:
                    raise SystemExit(err)
                other = next(s for s in sizes if s != size)
                frees, fixeds, firsts = [], [], []
                for _ in range(args.rounds):
                    line = times(free, [folders[other], folders[size]])[1]
                    frees.append(statistics.median(line["ms"]))
                    firsts.append(line["first_ms"] - frees[-1])
                    fixeds.append(statistics.median(times(fixed, [folders[size]])[0]["ms"]))
                ratios = sorted(a / b for a, b in zip(frees, fixeds))
                band = f"{ratios[len(ratios) // 10]:.2f}..{ratios[-1 - len(ratios) // 10]:.2f}"
                a, b = statistics.median(frees), statistics.median(fixeds)
                print(f"{name:10} {str(size).replace(' ', ''):>14} {a:9.3f} {b:9.3f} {a / b:6.2f} {band:>12} {statistics.median(firsts):11.3f}", flush=True)


if __name__ == "__main__":
    main()
