"""Quantised products and a quantised network beside ONNX Runtime, one thread, in alternation.

    .cache/venv/bin/python benchmarks/quantised.py [--build=DIR] [--rounds=9] [--seconds=0.5] [--target=llvm-cpu] [--device=local-sync]

The models are those of tests/models/quantised.py. ONNX Runtime runs as it comes and with session.x64quantprecision: without
VNNI its product of u8 by i8 saturates otherwise, which Ingot's never does. In each round all run for a while, their order
turning; printed are the medians of the rounds and of Ingot's ratios to both, and the ratio of vmvx to the target.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "tests/models")]
import harness
import numpy as np
import onnx
import onnxruntime
import quantised


class Peer:
    def __init__(self, path, feeds, seconds, exact):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.x64quantprecision", "1" if exact else "0")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.feeds, self.seconds = feeds, seconds
        for _ in range(3):
            self.session.run(None, feeds)

    def time(self):
        """Milliseconds of a run, the median."""
        times, end = [], time.perf_counter() + self.seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            self.session.run(None, self.feeds)
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)


class Ingot:
    def __init__(self, tools, path, feeds, target, device, folder):
        self.archive = folder / f"{path.stem}-{target}.ingot"
        status, _, err = tools.compile(path, self.archive, f"--target={target}")
        if status != 0:
            raise SystemExit(f"{path}: {err}")
        self.command = [tools.ingot, "bench", "--json", f"--device={device}", self.archive]
        for name, array in feeds.items():
            np.save(folder / f"{name}.npy", array)
            self.command.append(f"--input={name}=@{folder}/{name}.npy")

    def time(self, seconds):
        done = subprocess.run([*map(str, self.command), f"--seconds={seconds}"], check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)["median_ms"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--target", default="llvm-cpu")
    parser.add_argument("--device", default="local-sync")
    parser.add_argument("--model", action="append")
    args = parser.parse_args()
    tools = harness.Tools(args.build)
    print(f"{'model':20} {'ONNX Runtime':>13} {'exact':>10} {'Ingot':>10} {'ratios':>12} {'vmvx / ' + args.target:>16}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for title, model, feeds in quantised.benchmark_models():
            if args.model and title not in args.model:
                continue
            path = folder / f"{title}.onnx"
            onnx.save(model, path)
            peers = [Peer(path, feeds, args.seconds, exact) for exact in (False, True)]
            ours = Ingot(tools, path, feeds, args.target, args.device, folder)
            sides = [peers[0].time, peers[1].time, lambda: ours.time(args.seconds)]
            rounds = []
            for turn in range(args.rounds):
                times = {}
                for k in range(len(sides)):
                    side = (turn + k) % len(sides)
                    times[side] = sides[side]()
                rounds.append(times)
            theirs, exact, mine = (statistics.median(r[i] for r in rounds) for i in range(3))
            ratios = [statistics.median(r[2] / r[i] for r in rounds) for i in range(2)]
            bytecode = Ingot(tools, path, feeds, "vmvx", "local-sync", folder).time(args.seconds)
            print(f"{title:20} {theirs:10.3f} ms {exact:7.3f} ms {mine:7.3f} ms {ratios[0]:6.2f}{ratios[1]:6.2f} {bytecode / mine:16.1f}", flush=True)


if __name__ == "__main__":
    main()
