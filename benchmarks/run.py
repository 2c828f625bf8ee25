"""Models in Ingot beside ONNX Runtime (and IREE, OpenVINO, ncnn on request): one command, one run.

    python3 benchmarks/run.py [--model=NAME]... [--threads=1 --threads=2] [--peer=openvino]... [--rounds=9]
                              [--output=FOLDER] [--resume]

It installs what it needs (tools/setup.sh bench, or peers), compiles each model, finds the fastest of each peer's own
settings, checks that all results agree with ONNX Runtime's, and then measures in alternation: in each round every
program runs for a while, their order turning, and the ratio of the medians is taken per round. Written to FOLDER
(default .cache/bench/report): results.json, results.md, results.svg, after each model anew. --resume keeps the rows
of results.json that the same programs made. Run it alone on the machine: neighbours cost all sides, but unevenly.

What the columns mean is said in docs/benchmarks.md. A model that does not compile, run or agree has a row that says so,
and the exit status is 1.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".cache/venv/bin/python"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--model", action="append", metavar="NAME", help="only this model; may be repeated")
    parser.add_argument("--threads", action="append", type=int, help="default: 1, and 2 where the local-task driver is")
    parser.add_argument("--peer", action="append", choices=["openvino", "iree", "ncnn"], default=[],
                        help="beside ONNX Runtime; may be repeated")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each program in a round")
    parser.add_argument("--output", default=str(ROOT / ".cache/bench/report"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--no-setup", action="store_true", help="everything is installed: do not look")
    args = parser.parse_args()
    if args.rounds < 7:
        parser.error("a ratio needs at least 7 rounds")
    return args


args = arguments()
if not args.no_setup:
    subprocess.run([ROOT / "tools/setup.sh", "peers" if args.peer else "bench"], check=True, stdout=subprocess.DEVNULL)
if pathlib.Path(sys.prefix).resolve() != PYTHON.parent.parent.resolve():
    os.execv(PYTHON, [str(PYTHON), __file__, "--no-setup", *(a for a in sys.argv[1:] if a != "--no-setup")])

sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "tests/models"), str(ROOT / "benchmarks")]
import catalogue
import harness
import numpy as np
import report
from contenders import Ingot, Peer, Refused, Worker, median_of


def say(text):
    print(text, flush=True)


def summary(values):
    return {"median": float(np.median(values)), "p10": float(np.percentile(values, 10)),
            "p90": float(np.percentile(values, 90)), "rounds": [round(v, 6) for v in values]}


def library_bytes(tools):
    """libingot whole as a stripped shared library: every driver that this build has."""
    archive, shared = tools.build / "src/libingot.a", harness.CACHE / "bench/libingot.so"
    shared.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["c++", "-shared", "-o", shared, "-Wl,--whole-archive", archive, "-Wl,--no-whole-archive", "-lpthread",
                    "-ldl", "-s"], check=True)
    return shared.stat().st_size


def machine():
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "load_average": os.getloadavg()[0]}


def disagreement(ours, reference):
    for name, value in reference.items():
        wrong = harness.agrees(ours[name], value)
        if wrong:
            return f"{name}: {wrong}"
    return None


def by_position(values, reference):
    """Outputs of a peer that has no names for them, or loses axes of 1, as the reference has them."""
    if set(reference) <= set(values):
        return values
    if len(values) != len(reference):
        raise Refused(f"{len(values)} outputs, expected {len(reference)}")
    found = {}
    for (name, wanted), value in zip(reference.items(), values.values()):
        if value.size != wanted.size:
            raise Refused(f"{name}: shape {list(value.shape)}, expected {list(wanted.shape)}")
        found[name] = value.reshape(wanted.shape).astype(wanted.dtype)
    return found


def open_peer(name, model, feeds, folder, threads, reference):
    """A tuned peer that agrees: (peer, settings, tried, version and sizes)."""
    peer = Peer(name, model, feeds, folder)
    settings, tried = peer.tune(threads, min(0.3, args.seconds), say)
    with Worker(peer, settings) as worker:
        worker.ask("run 0")
        outputs = peer.outputs(worker)
        if reference is not None:
            wrong = disagreement(by_position(outputs, reference), reference)
            if wrong:
                raise Refused(f"disagrees with ONNX Runtime: {wrong}")
        return peer, settings, tried, outputs, worker.hello


def fastest(ingot, devices, threads):
    """Of the devices that give these threads; as with the peers' settings, a later one has to win clearly."""
    if len(devices) == 1:
        return devices[0]
    times = {device: [] for device in devices}
    for _ in range(3):
        for device in devices:
            times[device].append(ingot.measure(device, threads, min(0.3, args.seconds)))
    best = devices[0]
    for device in devices:
        if min(times[device]) < 0.98 * min(times[best]):
            best = device
    return best


def measure(tools, model, threads, folder):
    """One row of the report."""
    feeds = model.feeds(1)
    row = {"model": model.name, "title": model.title, "threads": threads, "peers": {}, "time": datetime.datetime.now()
           .isoformat(timespec="seconds"), "onnx_bytes": model.path.stat().st_size}
    ort, ort_settings, tried, reference, hello = open_peer("onnxruntime", model, feeds, folder, threads, None)
    contestants = {"onnxruntime": (ort, ort_settings, tried, hello)}
    for name in args.peer:
        try:
            peer, settings, tried, _, hello = open_peer(name, model, feeds, folder, threads, reference)
            contestants[name] = (peer, settings, tried, hello)
        except Refused as refusal:
            row["peers"][name] = {"refused": str(refusal)}
            say(f"{name}: {refusal}")

    ingot, device = Ingot(tools, model, feeds, folder), None
    try:
        row["compile_s"] = ingot.compile()
        devices = Ingot.devices(tools, threads)
        for candidate in devices:
            wrong = disagreement(ingot.outputs(feeds, list(reference), candidate), reference)
            if wrong:
                raise Refused(f"disagrees with ONNX Runtime on {candidate}: {wrong}")
        device = fastest(ingot, devices, threads)
        row["ingot"] = {"settings": {"device": device}, "archive_bytes": ingot.archive.stat().st_size}
    except Refused as refusal:
        row["ingot"] = {"refused": str(refusal)}
        say(f"{model.name}: {refusal}")

    workers, times = {}, {name: [] for name in contestants}
    ours = []
    try:
        for name, (peer, settings, _, _) in contestants.items():
            workers[name] = Worker(peer, settings)
            workers[name].ask(f"run {min(0.2, args.seconds)}")
        for round_ in range(args.rounds):
            steps = [lambda w=worker, n=name: times[n].append(w.ask(f"run {args.seconds}")["median_ms"])
                     for name, worker in workers.items()]
            if device:
                steps.insert(0, lambda: ours.append(ingot.measure(device, threads, args.seconds)))
            turn = round_ % len(steps)
            for step in steps[turn:] + steps[:turn]:
                step()
    finally:
        for worker in workers.values():
            worker.close()
    for name, (peer, settings, tried, hello) in contestants.items():
        row["peers"][name] = {"settings": settings, "tried": tried, "version": hello["version"], "ms": summary(times[name]),
                              "library_bytes": hello["library_bytes"], "model_bytes": hello["model_bytes"],
                              **median_of([peer.cold(settings) for _ in range(3)])}
        if device:
            row["peers"][name]["ratio"] = summary([a / b for a, b in zip(ours, times[name])])
    if device:
        row["ingot"].update(ms=summary(ours), **median_of([ingot.cold(device, threads) for _ in range(3)]))
    return row


def main():
    unknown = set(args.model or ()) - set(catalogue.MODELS)
    if unknown:
        raise SystemExit(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(catalogue.MODELS)}")
    tools = harness.Tools(args.build)
    threads = args.threads or ([1, 2] if "local-task" in Ingot.drivers(tools) else [1])
    for count in threads:
        if not Ingot.devices(tools, count):
            raise SystemExit(f"--threads={count}: this build has no driver local-task")
    output = pathlib.Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    programs = harness.hash_of(tools.aotc, tools.ingot, (ROOT / "tools/versions.env"), " ".join(sorted(args.peer)))
    result = {"programs": programs, "rows": []}
    if args.resume and (output / "results.json").exists():
        earlier = json.loads((output / "results.json").read_text())
        if earlier["programs"] == programs:
            result = earlier
        else:
            say("results.json was made by other programs: starting anew")
    result.update(machine=machine(), rounds=args.rounds, library_bytes=library_bytes(tools))
    failed = 0
    for count in threads:
        for name, model in catalogue.MODELS.items():
            if args.model and name not in args.model:
                continue
            old = next((r for r in result["rows"] if (r["model"], r["threads"]) == (name, count)), None)
            if old and args.resume:
                row = old
            else:
                folder = harness.CACHE / "bench" / "work" / name
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    row = measure(tools, model, count, folder)
                except Refused as refusal:  # ONNX Runtime itself
                    row = {"model": name, "title": model.title, "threads": count, "peers": {},
                           "ingot": {"refused": f"ONNX Runtime: {refusal}"}}
                result["rows"] = [r for r in result["rows"] if r is not old] + [row]
            result["rows"].sort(key=lambda r: (r["threads"], list(catalogue.MODELS).index(r["model"])))
            failed += "refused" in row["ingot"]
            say(report.line(row))
            report.write(result, output)
    say(report.closing(result))
    say(f"written: {output}/results.json, results.md, results.svg")
    sys.exit(1 if failed else 0)


main()
