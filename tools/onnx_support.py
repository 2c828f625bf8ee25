"""Prints docs/onnx-support.md from tests/results/: what passes, and which operators the refused tests lack.

    python3 tools/onnx_support.py > docs/onnx-support.md
"""
import collections
import json
import pathlib

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "results"

print("# ONNX support\n\nPrinted by `tools/onnx_support.py` from the records of `./test.sh --full`; not edited by hand.\n")
print("| suite | tests | pass | fail | refused with a diagnosis | skipped | versions |")
print("|---|---|---|---|---|---|---|")
for name in ("onnx-node", "onnx-generated"):
    path = RESULTS / f"{name}.json"
    if not path.exists():
        continue
    record = json.loads(path.read_text())
    c = record["counts"]
    versions = ", ".join(f"{k} {v}" for k, v in sorted(record["versions"].items()))
    print(f"| {name} | {c['tests']} | {c['ok']} | {c['fail']} | {c['refused']} | {c['skip']} | {versions} |")

path = RESULTS / "onnx-node.json"
if path.exists():
    results = json.loads(path.read_text())["results"]
    failed = {t: r for t, r in results.items() if r["status"] == "fail"}
    if failed:
        print("\n## Failing\n\n| test | reason |\n|---|---|")
        for test, result in failed.items():
            reason = result.get("reason", "").replace("|", "\\|")[:160]
            print(f"| {test} | {reason} |")
    lacking = collections.Counter()
    alone = collections.Counter()
    for result in results.values():
        if result["status"] == "refused":
            names = result["reason"].split(", ")
            lacking.update(names)
            if len(names) == 1:
                alone.update(names)
    print("\n## Operators that refused tests lack\n\n| operator | tests that need it | tests that need nothing else |\n|---|---|---|")
    for operator, count in lacking.most_common():
        print(f"| {operator} | {count} | {alone[operator]} |")
