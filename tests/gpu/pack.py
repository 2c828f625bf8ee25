"""Packs what run_on_device.py needs for a machine with a GPU: the runtime tool, archives, inputs, and what ONNX Runtime gives.

    .cache/venv/bin/python tests/gpu/pack.py FOLDER [--build=DIR] [--only='mobilenet*'] [--most=60] [--targets=llvm-cpu,vulkan]
        [--conformance]

`--conformance` adds the conformance program, which run_on_device.py then runs first. Models whose archive would not fit into `--most` MB in all are left out, by name. Expected outputs come from ONNX Runtime
on this machine.
"""
import argparse
import fnmatch
import json
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "models")]
import catalogue
import harness
import networks_agree
import numpy as np


def pack(tools, model, target_flags, folder):
    folder.mkdir(parents=True)
    status, _, err = tools.compile(model.path, folder / "model.ingot", *target_flags, *model.flags, timeout=900)
    if status != 0:
        raise SystemExit(f"{model.name}: aotc: {err}")
    feeds = model.feeds(1)
    [expected] = networks_agree.reference(model, [feeds])
    about = {"inputs": [], "outputs": []}
    for kind, tensors in (("inputs", feeds), ("outputs", expected)):
        for number, (name, value) in enumerate(tensors.items()):
            file = f"{kind}{number}.npy"
            np.save(folder / file, np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value))
            peak = float(np.abs(value).max()) if value.dtype.kind == "f" else 0.0
            about[kind].append({"name": name, "file": file, "peak": peak})
    (folder / "about.json").write_text(json.dumps(about, indent=1))
    return sum(f.stat().st_size for f in folder.iterdir()) / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", default="*")
    parser.add_argument("--most", type=float, default=60)
    parser.add_argument("--targets", default="llvm-cpu,vulkan")
    parser.add_argument("--conformance", action="store_true")
    args = parser.parse_args()
    targets = [f"--target={t}" for t in args.targets.split(",")]
    tools = harness.Tools(args.build)
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    subprocess.run(["strip", "-o", args.folder / "ingot", tools.ingot], check=True)
    if args.conformance:
        subprocess.run(["strip", "-o", args.folder / "conformance", pathlib.Path(args.build) / "tests/conformance/conformance"], check=True)
    left = args.most - sum(f.stat().st_size for f in args.folder.iterdir()) / 1e6
    for model in sorted(catalogue.MODELS.values(), key=lambda m: m.path.stat().st_size):
        if not any(fnmatch.fnmatch(model.name, pattern) for pattern in args.only.split(",")):
            continue
        if model.path.stat().st_size / 1e6 > left:
            print(f"left out: {model.name} ({model.path.stat().st_size / 1e6:.0f} MB)")
            continue
        size = pack(tools, model, targets, args.folder / "models" / model.name)
        left -= size
        print(f"{model.name}: {size:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
