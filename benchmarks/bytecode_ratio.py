"""Bytecode beside native code, kernel by kernel: each model compiled for vmvx and for llvm-cpu, one thread.

    .cache/venv/bin/python benchmarks/bytecode_ratio.py [--model=NAME]... [--rounds=3] [--worst=5] [--json=FILE]

The two programs fuse and lay out differently, so groups of dispatches are paired that cover the same source nodes: a
conversion of layout goes with its user, and dispatches that share a node are one group. In each round both run in
alternation, every dispatch timed by the driver; a group's ratio is that of its median times. The model's ratio is that of whole
runs. Groups that take less than 20 us natively are marked `small`: what they cost is the dispatch and the interpreter's
start, not the lanes. Run it alone on the machine, or as `chrt -f 10 ...`.

Exit status 1: a model is above 12, or a group that is not small above 40.
"""
import argparse
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "tests/models")]
import catalogue
import harness
import numpy as np

MODEL_LIMIT, GROUP_LIMIT, SMALL_US = 12, 40, 20
WORK = harness.CACHE / "bench" / "bytecode"
TARGETS = ("llvm-cpu", "vmvx")


def compiled(tools, model, target):
    """The archive, made anew where the compiler or the model is younger."""
    path = WORK / f"{model.name}.{target}.ingot"
    if not path.exists() or path.stat().st_mtime < max(tools.aotc.stat().st_mtime, model.path.stat().st_mtime):
        status, out, err = tools.compile(model.path, path, f"--target={target}", *model.flags, timeout=1200)
        if status != 0:
            raise SystemExit(f"{model.name}: aotc --target={target}: exit status {status}: {err}")
    return path


def bench(tools, archive, inputs):
    status, out, err = harness.Tools.call(
        [tools.ingot, "bench", archive, "--device=local-sync", "--kernels", "--json", "--runs=3", "--seconds=0", *inputs], timeout=1200)
    if status != 0:
        raise SystemExit(f"{archive.name}: ingot bench: exit status {status}: {err}")
    return json.loads(out)


def groups_of(sites):
    """{frozenset of (target, site)}: connected by the nodes that they cover."""
    parent = {key: key for key in sites}

    def root(key):
        while parent[key] != key:
            key = parent[key] = parent[parent[key]]
        return key

    by_node = {}
    for key, site in sites.items():
        for node in site["nodes"]:
            by_node.setdefault(node, []).append(key)
    for keys in by_node.values():
        for other in keys[1:]:
            parent[root(other)] = root(keys[0])
    found = {}
    for key in sites:
        found.setdefault(root(key), []).append(key)
    return list(found.values())


def measure(tools, model, rounds):
    WORK.mkdir(parents=True, exist_ok=True)
    archives = {target: compiled(tools, model, target) for target in TARGETS}
    inputs = []
    for index, (name, array) in enumerate(model.feeds(1).items()):
        path = WORK / f"{model.name}.{index}.npy"
        np.save(path, array)
        inputs.append(f"--input={name}=@{path}")
    runs, times, sites = {t: [] for t in TARGETS}, {}, {}
    for _ in range(rounds):
        for target in TARGETS:
            report = bench(tools, archives[target], inputs)
            runs[target].append(report["median_ms"])
            for site in report["sites"]:
                key = (target, site["site"])
                sites[key] = site
                times.setdefault(key, []).append(site["time_us"])
    groups = []
    for keys in groups_of(sites):
        cost = {t: sum(statistics.median(times[k]) for k in keys if k[0] == t) for t in TARGETS}
        kernels = {t: [sites[k]["kernel"] for k in keys if k[0] == t] for t in TARGETS}
        if cost["llvm-cpu"] and cost["vmvx"]:
            groups.append({"ratio": cost["vmvx"] / cost["llvm-cpu"], **{f"{t}_us": cost[t] for t in TARGETS}, "kernels": kernels,
                           "nodes": sorted({n for k in keys for n in sites[k]["nodes"]})})
    native, bytecode = (statistics.median(runs[t]) for t in TARGETS)
    return {"model": model.name, "llvm-cpu_ms": native, "vmvx_ms": bytecode, "ratio": bytecode / native,
            "groups": sorted(groups, key=lambda g: -g["ratio"])}


def show(row, worst):
    big = [g for g in row["groups"] if g["llvm-cpu_us"] >= SMALL_US]
    small = [g for g in row["groups"] if g["llvm-cpu_us"] < SMALL_US]
    top = f"{big[0]['ratio']:6.1f}" if big else "     -"
    print(f"{row['model']:20} {row['llvm-cpu_ms']:9.3f} {row['vmvx_ms']:9.2f} {row['ratio']:6.1f} {top}  "
          f"{len(big)} groups, {len(small)} small", flush=True)
    for mark, list_ in (("", big), ("small", small)):
        for g in list_[:worst if not mark else 4]:
            names = ["+".join(g["kernels"][t][:3]) + ("..." if len(g["kernels"][t]) > 3 else "") for t in TARGETS]
            print(f"    {g['ratio']:6.1f} {g['llvm-cpu_us']:9.1f} us {g['vmvx_us']:9.1f} us {mark:5} {names[0]} / {names[1]}", flush=True)
    return row["ratio"] <= MODEL_LIMIT and all(g["ratio"] <= GROUP_LIMIT for g in big)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--model", action="append", choices=sorted(catalogue.MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worst", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    tools = harness.Tools(args.build)
    print(f"{'model':20} {'native ms':>9} {'vmvx ms':>9} {'ratio':>6} {'worst':>6}")
    rows, good = [], True
    for name in args.model or catalogue.MODELS:
        model = catalogue.MODELS[name]
        if not model.path.exists():
            print(f"{name:20} is not there: tools/setup.sh models, torch-models")
            continue
        rows.append(measure(tools, model, args.rounds))
        good = show(rows[-1], args.worst) and good
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(0 if good and rows else 1)


if __name__ == "__main__":
    main()
