"""Runs the archives that pack.py made on this machine's GPU. Needs python3 and the GPU's driver, nothing else.

    python3 tests/gpu/run_on_device.py FOLDER [--device=vulkan:0|cuda:0] [--json=FILE]

A model agrees where every output is within 1e-3 of the expected value or 1e-4 of the largest (docs/benchmarks.md). Prints
one line a test, `ok|not ok gpu/MODEL # remark`, with the median time of a run; exit status 1 where one fails.
"""
import argparse
import json
import pathlib
import subprocess
import sys


def call(*command, timeout=240):
    try:
        done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout)
        return done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return "timeout", f"no answer in {timeout} s"


def check(tool, folder, device):
    about = json.loads((folder / "about.json").read_text())
    inputs = [f"--input={i['name']}=@{folder / i['file']}" for i in about["inputs"]]
    for number, output in enumerate(about["outputs"]):
        expects = [f"--expect={o['name']}=@{folder / o['file']}" for o in [output]]
        status, text = call(tool, "run", folder / "model.ingot", f"--device={device}", *inputs, *expects, "--rtol=1e-3",
                            f"--atol={1e-4 * output['peak']}")
        if status != 0:
            return None, f"{output['name']}: exit status {status}: " + " ".join(text.split())[:300]
    status, text = call(tool, "bench", folder / "model.ingot", f"--device={device}", *inputs, "--seconds=1", "--json")
    if status != 0:
        return None, f"bench: exit status {status}: " + " ".join(text.split())[:300]
    return json.loads(text), ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--device", default="vulkan:0")
    parser.add_argument("--json")
    args = parser.parse_args()
    tool = args.folder / "ingot"
    tool.chmod(0o755)
    status, text = call(tool, "dump-devices", args.device.split(":")[0])
    print(text.rstrip())
    report, failed = {"devices": text, "models": {}}, 0
    conformance = args.folder / "conformance"
    if conformance.exists():
        conformance.chmod(0o755)
        status, text = call(conformance, f"--driver={args.device.split(':')[0]}", timeout=900)
        print(text.rstrip(), flush=True)
        failed += status != 0
    for folder in sorted((args.folder / "models").iterdir()):
        result, wrong = check(tool, folder, args.device)
        if result is None:
            failed += 1
            print(f"not ok gpu/{folder.name} # {wrong}", flush=True)
        else:
            report["models"][folder.name] = result
            print(f"ok gpu/{folder.name} # {result['median_ms']:.4g} ms a run, {result['prepare_ms']:.4g} ms to prepare", flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1))
    print(f"{len(report['models'])} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
