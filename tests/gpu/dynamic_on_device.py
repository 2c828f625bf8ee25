"""On a machine with a GPU, torch and onnxruntime: the free models of tests/models/dynamic.py at 20 sizes each, one archive each, on
the GPU, beside ONNX Runtime.

    python3 tests/gpu/dynamic_on_device.py [--target=cuda,vulkan] [--only='swin*'] [--sizes=20] [--seed=N] [--build=build]

The exported networks are made there from their seeds; det and rec are taken where tools/setup.sh models puts them, and left
out, by name, where they are not. One line a test, `ok|not ok|skip gpu/MODEL-TARGET # remark`; exit status 1 where one fails.
"""
import argparse
import datetime
import fnmatch
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "models"), str(HERE.parent / "lib")]
import export_models
import harness

DEVICES = {"cuda": "cuda:0", "vulkan": "vulkan:0"}


def export_networks():
    folder = harness.MODELS / "torch"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("gpt2_step", "swin_t"):
        if not (folder / f"{name}.onnx").exists():
            export_models.export(name, export_models.MODELS[name], folder / f"{name}.onnx")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="cuda,vulkan")
    parser.add_argument("--only", default="*")
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=datetime.date.today().toordinal())
    parser.add_argument("--build", default="build")
    args = parser.parse_args()
    export_networks()
    import dynamic  # reads the exported files

    tools, counts = harness.Tools(args.build), {"ok": 0, "not ok": 0, "skip": 0}
    for target in args.target.split(","):
        for name, case in dynamic.cases().items():
            test = f"{name}-{target}"
            if not fnmatch.fnmatch(test, args.only):
                continue
            if not case.path.exists():
                kind, remark = "skip", f"{case.path.name} is not here"
            else:
                with tempfile.TemporaryDirectory() as scratch:
                    outcome = dynamic.compare(tools, name, case, target, DEVICES[target], args.sizes, 10, args.seed,
                                              pathlib.Path(scratch))
                kind, remark = "ok" if outcome.status == "ok" else "not ok", outcome.reason
            counts[kind] += 1
            print(f"{kind} gpu/{test} # {remark}", flush=True)
    print(f"{counts['ok']} passed, {counts['not ok']} failed, {counts['skip']} skipped")
    sys.exit(1 if counts["not ok"] else 0)


if __name__ == "__main__":
    main()
