#!/usr/bin/env python3
"""Compiled models give the same bytes on local-sync and on local-task with 1 to 8 threads.

    models.py --aotc=COMPILER --ingot=TOOL (MODEL.onnx | FOLDER)...

Prints one result line a model and number of threads. Without any model, exit status 77: skipped.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

# Inputs of models with free dims.
SHAPES = {"ch_PP-OCRv4_rec_infer": ["1x3x48x320xf32=random:3"], "magika": ["1x2048xi32=random:3"],
          "ch_PP-OCRv4_det_infer": ["1x3x96x160xf32=random:3"], "ch_ppocr_mobile_v2.0_cls_infer": ["1x3x48x192xf32=random:3"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aotc", required=True)
    parser.add_argument("--ingot", required=True)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    models = [m for given in args.models for m in (sorted(given.glob("*.onnx")) if given.is_dir() else [given]) if m.exists()]
    if not models:
        print("no models here: tools/setup.sh test brings them")
        return 77
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for model in models:
            archive = folder / (model.stem + ".ingot")
            subprocess.run([args.aotc, model, "-o", archive, "--progress=off"], check=True)
            inputs = ["--input=" + spec for spec in SHAPES.get(model.stem, [])]
            inspected = subprocess.run([args.ingot, "inspect", "--json", archive], check=True, stdout=subprocess.PIPE, text=True)
            if not inputs:
                inputs = ["--input=%s=random:3" % i["name"] for i in first_function(inspected.stdout)["inputs"]]
            outputs = [o["name"] for o in first_function(inspected.stdout)["outputs"]]

            def run(device):
                files = [folder / ("%d.npy" % n) for n in range(len(outputs))]
                subprocess.run([args.ingot, "run", archive, "--device=" + device] + inputs +
                               ["--output=%s=@%s" % pair for pair in zip(outputs, files)], check=True)
                return [f.read_bytes() for f in files]

            expected = run("local-sync")
            for threads in range(1, 9):
                good = run("local-task://0?threads=%d" % threads) == expected
                failed |= not good
                print("%s task-models/%s/%d-threads" % ("ok" if good else "not ok", model.stem, threads))
    return 1 if failed else 0


def first_function(text):
    import json
    report = json.loads(text)
    variant = report["variants"][0] if "variants" in report else report
    return variant["functions"][0]


if __name__ == "__main__":
    sys.exit(main())
