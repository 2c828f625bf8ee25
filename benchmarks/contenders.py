"""The two sides of a comparison, seen alike by benchmarks/run.py: Ingot through `ingot bench`, a peer through peers.py.

Both can be started cold (load, first run, memory: a new process each time), measured for a while (the median of a
run), and asked for their results. What a contender cannot do is a Refused with the reason, never a figure.
"""
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

import harness

HERE = pathlib.Path(__file__).resolve().parent
PEER_PYTHON = harness.CACHE / "bench-venv" / "bin" / "python"


class Refused(Exception):
    """This contender cannot run this model, and why."""


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


class Ingot:
    name = "ingot"

    def __init__(self, tools, model, feeds, folder):
        self.tools, self.model, self.folder = tools, model, folder
        self.archive = folder / "model.ingot"
        self.inputs = []
        for index, (name, value) in enumerate(feeds.items()):
            path = folder / f"in{index}.npy"
            np.save(path, value)
            self.inputs.append(f"--input={name}=@{path}")

    def compile(self):
        """Seconds that aotc took."""
        started = time.monotonic()
        status, _, err = self.tools.compile(self.model.path, self.archive, *self.model.flags, timeout=900)
        if status != 0:
            lines = err.strip().splitlines() or ["no message"]
            reason = lines[0].removeprefix("aotc: error: ").removeprefix(f"{self.model.path}: ")
            raise Refused(f"aotc, exit status {status}: {reason[:300]}")
        return time.monotonic() - started

    @staticmethod
    def drivers(tools):
        status, out, err = tools.call([tools.ingot, "list-drivers"])
        if status != 0:
            raise SystemExit(f"ingot list-drivers: {err}")
        return {line.split(":")[0] for line in out.splitlines()}

    @staticmethod
    def devices(tools, threads):
        """Settings to choose from: every driver that gives this number of threads."""
        found = Ingot.drivers(tools)
        devices = ["local-sync"] if threads == 1 else []
        if "local-task" in found:
            devices.append(f"local-task://0?threads={threads}")
        return devices

    def bench(self, device, threads, *flags):
        status, out, err = self.tools.call([self.tools.ingot, "bench", self.archive, "--json", f"--device={device}",
                                            f"--threads={threads}", *self.inputs, *flags], timeout=300)
        if status != 0:
            raise Refused(f"ingot bench: exit status {status}: {last_line(err)}")
        return json.loads(out)

    def outputs(self, feeds, names, device):
        outputs, status, err = self.tools.run(self.archive, feeds, names, self.folder, f"--device={device}")
        if outputs is None:
            raise Refused(f"ingot run: exit status {status}: {last_line(err)}")
        return outputs

    def measure(self, device, threads, seconds):
        return self.bench(device, threads, f"--seconds={seconds}")["median_ms"]

    def cold(self, device, threads):
        report = self.bench(device, threads, "--runs=20")
        return {"load_ms": report["load_ms"] + report["prepare_ms"], "first_run_ms": report["first_run_ms"],
                "resident_bytes": report["process_resident_bytes"] - report["process_empty_bytes"],
                "peak_bytes": report["process_peak_bytes"] - report["process_empty_bytes"]}


class Worker:
    """A running peers.py."""

    def __init__(self, peer, settings):
        self.process = subprocess.Popen(peer.command("serve", settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=peer.environment(settings))
        self.hello = self.read()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):  # anything else is the peer's own talk
                return json.loads(line)
        err = self.process.stderr.read()
        self.process.wait()
        raise Refused(f"exit status {self.process.returncode}: {last_line(err)}")

    def ask(self, command):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # read() finds out why
        return self.read()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Peer:
    def __init__(self, name, model, feeds, folder):
        self.name, self.model, self.folder = name, model, folder
        # What a peer converts the model to is kept for as long as the model's file stays the same.
        stat = model.path.stat()
        key = hashlib.sha256(f"{model.path} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
        self.converted = harness.CACHE / "bench" / "converted" / f"{name}-{model.name}-{key}"
        self.converted.mkdir(parents=True, exist_ok=True)
        self.feeds_path = folder / "feeds.npz"
        np.savez(self.feeds_path, **feeds)

    def command(self, mode, settings):
        return [str(PEER_PYTHON), str(HERE / "peers.py"), mode, self.name, str(self.model.path), str(self.feeds_path),
                str(self.converted), json.dumps(settings)]

    def environment(self, settings):
        return {**os.environ, "OMP_NUM_THREADS": str(settings["threads"])}

    def convert(self, settings):
        if self.name == "onnxruntime":
            return
        try:
            done = subprocess.run(self.command("convert", settings), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True, timeout=900)
        except subprocess.TimeoutExpired:
            raise Refused("its compiler took more than 15 minutes") from None
        if done.returncode != 0:
            raise Refused(f"its compiler: {last_line(done.stderr)}")

    def choices(self, threads):
        """Settings one by one, as peers.py lists them: (name, values)."""
        sys.path.insert(0, str(HERE))
        import peers
        return [(name, values) for name, values in peers.CHOICES[self.name].items()
                if threads > 1 or name not in peers.SPREAD]

    def tune(self, threads, seconds, say):
        """The settings that are fastest here: each in turn, from the best so far, in alternation with it.

        Returns them and the list of all that were tried, with their medians.
        """
        best, tried = {"threads": threads}, []
        choices = self.choices(threads)
        for name, values in choices:
            best[name] = values[0]
        for name, values in choices:
            workers, times, refusals = {}, {}, []
            try:
                for value in values:
                    settings = {**best, name: value}
                    try:
                        self.convert(settings)
                        workers[value] = Worker(self, settings)
                        times[value] = []
                    except Refused as refusal:
                        refusals.append(refusal)
                        tried.append({"settings": settings, "refused": str(refusal)})
                if not workers:
                    raise refusals[0]
                for _ in range(3):
                    for value, worker in workers.items():
                        times[value].append(worker.ask(f"run {seconds}")["median_ms"])
            finally:
                for worker in workers.values():
                    worker.close()
            for value, found in times.items():
                tried.append({"settings": {**best, name: value}, "median_ms": min(found)})
            # A later value has to win clearly: within 2 % the first stays.
            chosen = next(v for v in values if v in times)
            for value in times:
                if min(times[value]) < 0.98 * min(times[chosen]):
                    chosen = value
            best[name] = chosen
        say(f"{self.name}: {', '.join(f'{k}={v}' for k, v in best.items())}")
        return best, tried

    def cold(self, settings):
        with Worker(self, settings) as worker:
            worker.ask("run 0.2")
            memory = worker.ask("memory")
            return {"load_ms": worker.hello["load_ms"], "first_run_ms": worker.hello["first_run_ms"],
                    "resident_bytes": memory["resident_bytes"], "peak_bytes": memory["peak_bytes"]}

    def outputs(self, worker):
        path = self.folder / f"{self.name}-outputs.npz"
        worker.ask(f"outputs {path}")
        with np.load(path) as file:
            return {name: file[name] for name in file.files}


def median_of(rows):
    """Key by key."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}
