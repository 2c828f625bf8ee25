"""Writes docs/operators.md: what `aotc --list-operators` lists, and what the records of the ONNX suite show of each.

    python3 tools/operators_doc.py --aotc=build/aotc/aotc [--check]

With --check nothing is written; the exit status is 1 where the page differs from what would be written.
Only the Python standard library is used here.
"""
import argparse
import difflib
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/operators.md"
RECORDS = ROOT / "tests/results"
SUITE = "onnx-suite-"
NAMES = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "int8": "i8", "int16": "i16", "int32": "i32",
         "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64"}

HEAD = """# Operators

Written by `tools/operators_doc.py` from `aotc --list-operators` and the records of the ONNX 1.22 backend suite; not edited by
hand. *Types* are those of the inputs of passing tests that use the operator alone: what is shown to work, not all that is
accepted. A count is "passing of all tests that use the operator", whatever else those use. Types narrower than a byte and 8-bit
floats are stored one element a byte in inputs and outputs.
"""


def listed(aotc):
    """[(domain, operator, "first-last")], rows of one operator merged."""
    rows = {}
    for line in subprocess.run([aotc, "--list-operators"], check=True, stdout=subprocess.PIPE).stdout.decode().splitlines():
        domain, operator, opsets = line.split()
        first, _, last = opsets.partition("-")
        known = rows.get((domain, operator), (10**9, 0))
        rows[domain, operator] = (min(known[0], int(first)), max(known[1], int(last or first)))
    return [(domain, operator, f"{first}-{last}") for (domain, operator), (first, last) in sorted(rows.items())]


def page(aotc):
    records = {p.stem.removeprefix(SUITE): json.loads(p.read_text()) for p in sorted(RECORDS.glob(f"{SUITE}*.json"))}
    lines = [HEAD]
    lines.append("| target | tests | pass | refused with a diagnosis | expected failures |\n|---|---|---|---|---|")
    for target, record in records.items():
        c = record["counts"]
        lines.append(f"| `{target}` | {c['tests']} | {c['ok']} | {c['refused']} | {c['skip']} |")
    operators = listed(aotc)
    lines.append(f"\n## The {len(operators)} operators that are imported\n")
    lines.append("| operator | opsets | types | " + " | ".join(f"`{t}`" for t in records) + " |")
    lines.append("|---" * (3 + len(records)) + "|")
    for domain, operator, opsets in operators:
        found = [r["operators"].get(f"{domain} {operator}") for r in records.values()]
        types = sorted({NAMES.get(t, t) for f in found if f for t in f["types"]})
        counts = [f"{f['pass']} of {f['tests']}" if f else "-" for f in found]
        name = operator if domain == "ai.onnx" else f"{domain}.{operator}"
        lines.append(f"| {name} | {opsets} | {' '.join(types) or '-'} | {' | '.join(counts)} |")
    known = {f"{domain} {operator}" for domain, operator, _ in operators}
    missing = {}
    for record in records.values():
        for name, row in record["operators"].items():
            if name not in known:
                missing[name] = row["tests"]
    lines.append("\n## Operators that tests use and aotc refuses\n\n| operator | tests |\n|---|---|")
    for name, tests in sorted(missing.items(), key=lambda item: (-item[1], item[0])):
        domain, operator = name.split()
        lines.append(f"| {operator if domain == 'ai.onnx' else f'{domain}.{operator}'} | {tests} |")
    return "\n".join(lines) + "\n"


parser = argparse.ArgumentParser()
parser.add_argument("--aotc", required=True)
parser.add_argument("--check", action="store_true")
args = parser.parse_args()
text = page(args.aotc)
if not args.check:
    PAGE.write_text(text)
elif not PAGE.exists() or PAGE.read_text() != text:
    old = PAGE.read_text() if PAGE.exists() else ""
    sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), "docs/operators.md", "as it would be written", n=0))
    sys.exit("docs/operators.md is stale: run python3 tools/operators_doc.py --aotc=build/aotc/aotc")
