"""Runs every suite and prints one line a test, then `N passed, N failed, N skipped` over all of them.

    python3 tests/run.py [--build=DIR]... [--full] [--shares=N] [--suite=NAME]... [--jobs=2]

Suites are (1) what Meson knows as tests in each build folder and (2) the script suites listed below, which need the
Python environment of tools/setup.sh. A Meson test that is a Catch2 program counts once per test case; one that prints
`ok|not ok|skip SUITE/TEST` lines counts as those lines; any other counts as one test by its exit status (77: skipped).
Only the Python standard library is used here.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".cache/venv/bin/python"
ONLY_FULL = 0
# name: (script and its arguments, how many shares it is cut into for a plain run; 1 = all of it every time)
SCRIPTS = {
    "cli": ("tests/cli/cli.py", 1),
    "budgets": ("tests/budgets/budgets.py", 1),
    "models": ("tests/models/models.py", 1),
    "networks": ("tests/models/networks_agree.py", 8),
    "quantised": ("tests/onnx/quantised_agree.py", 1),
    "gpu-models": ("tests/gpu/models_agree.py", 2),
    "gpu-models-cuda": ("tests/gpu/models_agree.py --mock", 2),
    "gpu-msl": ("tests/gpu/gpu_msl.py", 4),
    "gpu-wgsl": ("tests/gpu/gpu_wgsl.py", 8),
    "gpu-archive": ("tests/gpu/gpu_archive.py", 1),
    "gpu-host-time": ("tests/gpu/gpu_host_time.py", 1),
    "gpu-cubin": ("tests/gpu/gpu_cubin.py", 8),
    "gpu-hsaco": ("tests/gpu/gpu_hsaco.py", 14),
    "gpu-networks": ("tests/gpu/models_agree.py --networks", 10),
    "gpu-networks-large": ("tests/gpu/models_agree.py --large", ONLY_FULL),
    "dynamic": ("tests/models/dynamic.py", 14),
    "dynamic-large": ("tests/models/dynamic.py --large", ONLY_FULL),
    "scripted": ("tests/models/scripted_agree.py", 1),
    "cache": ("tests/models/cache_agree.py", 1),
    "control": ("tests/control/control.py", 1),
    "control-vulkan": ("tests/control/control.py --vulkan", 1),
    "values": ("tests/values/values.py", 1),
    "numerics": ("tests/numerics/numerics.py", 1),
    "onnx-suite-llvm-cpu": ("tests/onnx/suite.py", 8),
    "onnx-suite-vmvx": ("tests/onnx/suite.py --target=vmvx", 8),
    "onnx-suite-vulkan": ("tests/onnx/suite.py --target=vulkan", 30),
    "onnx-generated": ("tests/onnx/generated.py", 8),
    "onnx-graphs": ("tests/onnx/graphs.py", 4),
}
LINE = re.compile(r"^(ok|not ok|skip) (\S+/\S.*?)(?: # (.*))?$")


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def add(self, word, name, reason=""):
        if word == "ok":
            self.passed += 1
        elif word == "skip":
            self.skipped += 1
        else:
            self.failed += 1
            self.failures.append(f"{name}: {reason}")

    def show(self, word, name, reason=""):
        reason = " ".join((reason or "").split())
        print(f"{word} {name}" + (f" # {reason}" if reason else ""), flush=True)
        self.add(word, name, reason)


class Held:
    """Results of one suite that runs beside others: shown together when it has ended."""

    def __init__(self):
        self.results = []

    @property
    def failures(self):
        return [name for word, name, _ in self.results if word == "not ok"]

    def show(self, word, name, reason=""):
        self.results.append((word, name, reason))


def run(command, timeout, **kw):
    """(status, output): a hang ends the whole process group and gives 'timeout'."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True, **kw)
    try:
        out, _ = process.communicate(timeout=timeout)
        return process.returncode, out.decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        return "timeout", out.decode(errors="replace")


def is_catch2(program):
    try:
        data = pathlib.Path(program).read_bytes()
    except OSError:
        return False
    return data[:4] == b"\x7fELF" and b"A Catch2 test executable" in data


def ending(status):
    if status == "timeout":
        return "no end within its time limit"
    if isinstance(status, int) and status < 0:
        return f"ended by signal {-status}"
    return f"exit status {status}"


def catch2_test(suite, command, timeout, totals, **kw):
    """One result per test case, from the program's own XML report; a crash fails the case that was running."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        status, out = run(command + ["-r", "xml", "-o", str(report)], timeout, **kw)
        text = report.read_text(errors="replace") if report.exists() else ""
    cases = 0
    skips = {}
    for match in map(LINE.match, out.splitlines()):
        if match and match[1] == "skip":
            skips[match[2].split("/", 1)[1]] = match[3] or ""
    try:
        tree = xml.etree.ElementTree.fromstring(text)
        for case in tree.iter("TestCase"):
            cases += 1
            name = case.get("name")
            result = case.find("OverallResult")
            if result is not None and result.get("success") == "true":
                if name in skips:
                    totals.show("skip", f"{suite}/{name}", skips[name])
                else:
                    totals.show("ok", f"{suite}/{name}")
            else:
                where = [f"{e.get('filename')}:{e.get('line')}: {(e.findtext('Original') or '').strip()} -> "
                         f"{(e.findtext('Expanded') or '').strip()}"
                         for e in case.iter("Expression") if e.get("success") == "false"]
                texts = [(e.text or "").strip() for tag in ("Exception", "Failure", "FatalErrorCondition")
                         for e in case.iter(tag)]
                totals.show("not ok", f"{suite}/{name}", "; ".join(where[:3] + texts[:3]) or "failed")
    except xml.etree.ElementTree.ParseError:
        names = re.findall(r'<TestCase name="([^"]*)"', text)
        for name in names[:-1]:
            totals.show("ok", f"{suite}/{name}")
        totals.show("not ok", f"{suite}/{names[-1] if names else '(start)'}",
                    f"{ending(status)}: {out[-600:]}")
        return
    if cases == 0:
        totals.show("not ok", f"{suite}/(no test case)", f"{ending(status)}: {out[-600:]}")
    elif status != 0 and not any(f.startswith(suite + "/") for f in totals.failures):
        totals.show("not ok", f"{suite}/(end)", f"{ending(status)}: {out[-600:]}")


def line_test(suite, name, command, timeout, totals, **kw):
    status, out = run(command, timeout, **kw)
    lines = [m for m in map(LINE.match, out.splitlines()) if m]
    for match in lines:
        totals.show(match[1], match[2], match[3])
    if lines:
        if status != 0 and not any(m[1] == "not ok" for m in lines):
            totals.show("not ok", f"{suite}/{name}", f"{ending(status)}: {out[-600:]}")
    elif status == 0:
        totals.show("ok", f"{suite}/{name}")
    elif status == 77:
        totals.show("skip", f"{suite}/{name}", out[-200:])
    else:
        totals.show("not ok", f"{suite}/{name}", f"{ending(status)}: {out[-600:]}")


def meson_test(suite, test, build):
    """(results, seconds) of one test of a build folder."""
    results = Held()
    options = {"cwd": test["workdir"] or str(build), "env": {**os.environ, **test["env"]}}
    timeout = max(180, 2 * test["timeout"]) if test["timeout"] > 0 else 1200 # Meson's limit is for a test alone; others run beside
    started = time.monotonic()
    if is_catch2(test["cmd"][0]):
        catch2_test(suite, test["cmd"], timeout, results, **options)
    else:
        line_test(suite, "run", test["cmd"], timeout, results, **options)
    return results, time.monotonic() - started


def meson_tests(build, totals, only, jobs):
    """Tests marked is_parallel run `jobs` at once, the longest time limit first; then the others, one at a time."""
    status, out = run(["meson", "introspect", "--tests", str(build)], 120)
    if status != 0:
        totals.show("not ok", f"meson/{build.name}", out)
        return
    label = "" if build.name == "build" else f"{build.name.removeprefix('build-')}:"
    tests = [(label + t["name"].replace(" ", "-"), t) for t in json.loads(out[out.index("["):])]
    tests = [(suite, t) for suite, t in tests if not only or suite in only]
    tests.sort(key=lambda item: -item[1]["timeout"])
    for parallel in True, False:
        with concurrent.futures.ThreadPoolExecutor(jobs if parallel else 1) as pool:
            running = {pool.submit(meson_test, suite, t, build): suite for suite, t in tests if t["is_parallel"] == parallel}
            for done in concurrent.futures.as_completed(running):
                results, seconds = done.result()
                for result in results.results:
                    totals.show(*result)
                print(f"# {running[done]}: {seconds:.1f} s", flush=True)


def script_suite(name, build, full, shares, jobs, totals):
    script, count = SCRIPTS[name]
    script, *arguments = script.split()
    command = [str(PYTHON), str(ROOT / script), *arguments, f"--build={build}", f"--jobs={jobs}"]
    if count == 1:
        pass
    elif full:
        command.append("--full")
    elif count != ONLY_FULL:
        command.append(f"--share={shares or count}")
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen_failure = lines = 0
    tail = ""
    for raw in process.stdout:
        text = raw.decode(errors="replace").rstrip("\n")
        match = LINE.match(text)
        if match:
            lines += 1
            seen_failure |= match[1] == "not ok"
            totals.add(match[1], match[2], match[3] or "")
            if match[1] != "not ok":
                continue
        tail = (tail + text + "\n")[-600:]
        print(text, flush=True)
    status = process.wait()
    if lines == 0 or (status != 0 and not seen_failure):
        totals.show("not ok", f"{name}/(end)", f"{ending(status)}: {tail}")
    print(f"# {name}: {time.monotonic() - started:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", action="append", help="build folder; the first also runs the script suites")
    parser.add_argument("--full", action="store_true", help="script suites whole, writing tests/results/")
    parser.add_argument("--shares", type=int, help="cut each script suite into this many shares and run one")
    parser.add_argument("--suite", action="append", help="only these suites")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    totals = Totals()
    if args.full:
        os.environ["INGOT_FULL"] = "1" # for tests that build something large of their own
    builds = [pathlib.Path(b).resolve() for b in args.build or [ROOT / "build"]]
    for build in builds:
        meson_tests(build, totals, args.suite, args.jobs)
    for name, (_, count) in SCRIPTS.items():
        if name in args.suite if args.suite else args.full or count != ONLY_FULL:
            script_suite(name, builds[0], args.full, args.shares, args.jobs, totals)
    if totals.failures:
        print("\nfailed:")
        for failure in totals.failures:
            print("  " + failure[:300])
    print(f"{totals.passed} passed, {totals.failed} failed, {totals.skipped} skipped")
    sys.exit(1 if totals.failed or not totals.passed else 0)


main()
