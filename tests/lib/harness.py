"""What every script suite shares: result lines, calling the tools, agreement, shares and records.

A suite is a list of named tests. It prints one line a test,

    ok SUITE/TEST [# remark]      not ok SUITE/TEST # reason      skip SUITE/TEST # reason

and tests/run.py adds them up. A suite may be run whole (`--full`), which writes a record to tests/results/SUITE.json,
or by a share (`--share=K/N`), which must find a record, up to date, and reproduce it.
"""
import argparse
import concurrent.futures
import datetime
import fnmatch
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import threading

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
MODELS = CACHE / "models"
RESULTS = ROOT / "tests" / "results"


def versions():
    """The pins of tools/versions.env as a dict."""
    pins = {}
    for line in (ROOT / "tools/versions.env").read_text().splitlines():
        line = line.split("#")[0].strip()
        if "=" in line:
            key, value = line.split("=", 1)
            pins[key] = value
    return pins


class Value:
    """What is no array: a sequence (a list of arrays, and their dtype where it is empty), an optional (an array or None)."""

    def __init__(self, content, dtype=None):
        self.content, self.dtype = content, dtype


def is_value(thing):
    """Whether the tool reads and writes it as JSON: strings, sequences, optionals."""
    return isinstance(thing, Value) or np.asarray(thing).dtype.kind in "OUS"


TYPE_NAMES = {"float32": "f32", "float64": "f64", "float16": "f16", "bool": "bool", "object": "string",
              **{f"{k}int{b}": f"{'u' if k else 'i'}{b}" for k in ("", "u") for b in (8, 16, 32, 64)}}


def write_json_value(path, thing):
    """As docs/values.md says; numbers lie in .npy files beside it."""
    def tensor(array, name):
        array = np.asarray(array)
        if array.dtype.kind in "OUS":
            return {"type": "string", "dims": list(array.shape), "values": [str(s) for s in array.reshape(-1)]}
        np.save(path.with_name(f"{path.stem}_{name}.npy"), np.ascontiguousarray(array) if array.ndim else array)
        return {"npy": f"{path.stem}_{name}.npy"}

    content = thing.content if isinstance(thing, Value) else thing
    if isinstance(content, list):
        kind = content[0].dtype if content else thing.dtype
        value = {"list": TYPE_NAMES[np.dtype(kind).name], "elements": [tensor(a, i) for i, a in enumerate(content)]}
    else:
        value = None if content is None else tensor(content, "value")
    path.write_text(json.dumps(value))


def read_json_value(path):
    def tensor(value):
        if value["type"] == "string":
            out = np.empty(len(value["values"]), object)
            out[:] = value["values"]
            return out.reshape(value["dims"])
        name = next(n for n, t in TYPE_NAMES.items() if t == value["type"])
        return np.array([float(v) if isinstance(v, str) else v for v in value["values"]], dtype=name).reshape(value["dims"])

    value = json.loads(path.read_text())
    if value is None:
        return Value(None)
    if "list" in value:
        return Value([tensor(v) for v in value["elements"]])
    return tensor(value)


class Outcome:
    """status: ok, fail, skip or refused (the compiler said why it cannot, as it should)."""

    def __init__(self, status, reason=""):
        self.status = status
        self.reason = " ".join(str(reason).split())[:400]


def ok(remark=""):
    return Outcome("ok", remark)


def fail(reason):
    return Outcome("fail", reason)


def skip(reason):
    return Outcome("skip", reason)


def refused(reason):
    return Outcome("refused", reason)


def line(suite, test, outcome):
    word = {"ok": "ok", "fail": "not ok", "skip": "skip", "refused": "skip"}[outcome.status]
    reason = ("refused: " if outcome.status == "refused" else "") + outcome.reason
    return f"{word} {suite}/{test}" + (f" # {reason}" if reason else "")


# Where the archives of a suite of that target run, unless --device says otherwise. A software device takes minutes for a
# large network.
DEVICES = {"vulkan": "vulkan:0?validation=1", "cuda": "cuda:0"}
LIMIT_ON_DEVICE = 1800  # seconds


class Tools:
    """The built programs. Every call has a time limit: a hang is a failure, not a wait.

    `device`: where `run` runs archives, if its flags do not say; None: on the tool's own choice.
    """

    def __init__(self, build, device=None):
        self.build, self.device = pathlib.Path(build).resolve(), device
        self.aotc = self.build / "aotc" / "aotc"
        self.ingot = self.build / "tools" / "ingot"
        for program in (self.aotc, self.ingot):
            if not program.exists():
                raise SystemExit(f"{program} is missing: build first (./test.sh, or ninja -C {build})")

    @staticmethod
    def call(command, timeout=120, **kw):
        """(exit status, stdout, stderr); a program that a signal ended has a negative status, a hang 'timeout'."""
        try:
            done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=timeout, **kw)
        except subprocess.TimeoutExpired:
            return "timeout", "", f"no answer in {timeout} s"
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def compile(self, model, archive, *flags, timeout=300):
        return self.call([self.aotc, model, "-o", archive, "--progress=off", *flags], timeout)

    def run(self, archive, inputs, output_names, folder, *flags, timeout=120, values=()):
        """Runs an archive on {name: array or Value}; (outputs by name or None, exit status, error text). `values`: names of
        outputs that are strings, sequences or optionals."""
        if self.device and not any(str(f).startswith("--device") for f in flags):
            flags, timeout = (*flags, f"--device={self.device}"), max(timeout, LIMIT_ON_DEVICE)
        command = [self.ingot, "run", archive, *flags]
        for index, (name, array) in enumerate(inputs.items()):
            if is_value(array):
                path = folder / f"in{index}.json"
                write_json_value(path, array)
                command.append(f"--input={name}=@{path}")
                continue
            path = folder / f"in{index}.npy"
            np.save(path, np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array))
            command.append(f"--input={name}=@{path}")
        paths = {}
        for index, name in enumerate(output_names):
            paths[name] = folder / f"out{index}.{'json' if name in values else 'npy'}"
            command.append(f"--output={name}=@{paths[name]}")
        status, out, err = self.call(command, timeout)
        if status != 0:
            return None, status, err or out
        return {name: read_json_value(path) if name in values else np.load(path) for name, path in paths.items()}, 0, ""


def agrees(actual, reference, relative=1e-3, of_peak=1e-4, proves=True):
    """None where two tensors agree, else what is wrong.

    Floats: |a-r| <= 1e-3 |r| + 1e-4 max|r|; everything else equal. With `proves`, a reference that is constant, zero or
    not finite is itself a failure, as it shows nothing.
    """
    if actual.shape != reference.shape:
        return f"shape {list(actual.shape)}, expected {list(reference.shape)}"
    if actual.dtype != reference.dtype:
        return f"type {actual.dtype}, expected {reference.dtype}"
    if reference.dtype.kind not in "fc":
        if np.array_equal(actual, reference):
            return None
        wrong = np.argwhere(np.atleast_1d(actual != reference))
        at = tuple(wrong[0])
        return (f"{len(wrong)} of {reference.size} differ, first at {list(map(int, at))}: "
                f"{np.atleast_1d(actual)[at]}, expected {np.atleast_1d(reference)[at]}")
    a, r = np.atleast_1d(actual).astype(np.float64), np.atleast_1d(reference).astype(np.float64)
    finite = np.isfinite(r)
    if proves and r.size and not finite.all():
        return "the reference is not finite: it proves nothing"
    if proves and r.size > 1 and (r == r.flat[0]).all():
        return "the reference is constant: it proves nothing"
    same = np.where(finite, False, (a == r) | (np.isnan(a) & np.isnan(r)))
    peak = np.abs(r[finite]).max() if finite.any() else 0.0
    with np.errstate(all="ignore"):
        good = same | (finite & (np.abs(a - r) <= relative * np.abs(r) + of_peak * peak))
    if good.all():
        return None
    wrong = np.argwhere(~good)
    at = tuple(wrong[0])
    with np.errstate(all="ignore"):
        worst = np.nanmax(np.abs(a - r)[~good])
    return (f"{len(wrong)} of {r.size} differ, first at {list(map(int, at))}: {a[at]:.7g}, expected {r[at]:.7g}; "
            f"worst {worst:.3g}, peak {peak:.3g}")


def hash_of(*things):
    """A stable SHA-256 over strings, bytes and files' contents."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, pathlib.Path):
            thing = thing.read_bytes()
        digest.update(thing if isinstance(thing, bytes) else str(thing).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def daily_share(count):
    """Which of `count` shares is due: it changes every day and with every commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout.decode()
    return int(hash_of(commit, datetime.date.today().isoformat())[:8], 16) % count


def in_share(test, share, count):
    return int(hash_of(test)[:8], 16) % count == share


def expected_failures(*suites):
    """{test: reason} of tests/expected_failures.txt for the suites: strict both ways."""
    found = {}
    for text in (ROOT / "tests/expected_failures.txt").read_text().splitlines():
        test, _, reason = text.partition(" # ")
        for suite in suites:
            if test.startswith(suite + "/"):
                found[test[len(suite) + 1:]] = reason.strip()
    return found


def run_suite(name, prepare, versions_used, arrange=None, record_extra=None, scratch=None, expected_as=()):
    """Entry point of a script suite.

    prepare(tools) gives (tests, inputs_hash): tests is {test name: function(folder) -> Outcome}; the function gets an
    empty folder of its own and may be called from any thread. inputs_hash says what the suite's outcome rests on apart
    from the code under test: data, generator, pins, the operators that the compiler lists.

    arrange(names, jobs), if given, is told which tests will run and gives the order to start them in. record_extra(results)
    gives further sections of the record. `scratch` is a folder to remove at the end. Expected failures are those listed
    for `name` and for each of `expected_as` (a family of suites, e.g. one a target).
    """
    parser = argparse.ArgumentParser(description=f"the suite {name}")
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--full", action="store_true", help="run everything and write tests/results/%s.json" % name)
    parser.add_argument("--update", action="store_true", help="run what the record has no good result of, keep the rest, and write it")
    parser.add_argument("--share", help="K/N or N: one N-th of the tests, checked against the record")
    parser.add_argument("--only", help="a pattern of test names")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default=DEVICES.get(name.rpartition("-")[2]), help="URI of the device that runs the archives")
    parser.add_argument("--quiet", action="store_true", help="print failures and the closing line only")
    parser.add_argument("--keep", help="folder for the tests' files, kept")
    args = parser.parse_args()
    tests, inputs_hash = prepare(Tools(args.build, args.device))
    expected = expected_failures(name, *expected_as)

    record_path = RESULTS / f"{name}.json"
    partial_path = CACHE / "results" / f"{name}.partial.json"
    record = json.loads(record_path.read_text()) if record_path.exists() else None
    chosen, done, complaints = dict(tests), {}, []

    if args.only:
        chosen = {t: f for t, f in tests.items() if fnmatch.fnmatch(t, args.only)}
    elif args.full:
        binaries = hash_of(*(p for p in (Tools(args.build).aotc, Tools(args.build).ingot)))
        if partial_path.exists():  # an earlier full run of the same thing was cut off: go on where it stopped
            partial = json.loads(partial_path.read_text())
            if partial["inputs"] == inputs_hash and partial["binaries"] == binaries:
                done = {t: r for t, r in partial["results"].items() if t in tests}
                chosen = {t: f for t, f in tests.items() if t not in done}
    elif args.update:
        if record is None:
            raise SystemExit(f"{record_path.relative_to(ROOT)} is missing: --full makes it")
        done = {t: r for t, r in record["results"].items() if t in tests and r["status"] == "ok"}
        chosen = {t: f for t, f in tests.items() if t not in done}
    elif args.share:
        text = args.share.split("/")
        count = int(text[-1])
        share = int(text[0]) if len(text) == 2 else daily_share(count)
        chosen = {t: f for t, f in tests.items() if in_share(t, share, count)}
        if not chosen:  # a small suite in many shares: one test at least
            test = sorted(tests)[share % len(tests)]
            chosen = {test: tests[test]}
        print(f"# {name}: share {share} of {count}, {len(chosen)} of {len(tests)} tests", flush=True)
        if record is None:
            complaints.append(("record", f"{record_path.relative_to(ROOT)} is missing: run ./test.sh --full"))
        elif record["inputs"] != inputs_hash:
            complaints.append(("record", f"{record_path.relative_to(ROOT)} is stale, the suite's inputs have changed: "
                                         "run ./test.sh --full"))

    lock = threading.Lock()
    results = dict(done)
    temporary = pathlib.Path(args.keep or tempfile.mkdtemp(prefix=f"ingot-{name}-"))

    def write_partial():
        partial_path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"inputs": inputs_hash, "binaries": binaries, "results": results})
        partial_path.with_suffix(".tmp").write_text(text)
        partial_path.with_suffix(".tmp").replace(partial_path)

    def one(item):
        test, function = item
        folder = temporary / test.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            outcome = function(folder)
        except Exception as error:  # a suite's own trouble is a failed test, with its reason
            outcome = fail(f"{type(error).__name__}: {error}")
        finally:
            if not args.keep:
                shutil.rmtree(folder, ignore_errors=True)
        if test in expected:
            if outcome.status == "fail":
                outcome = skip(f"expected failure: {expected[test]}")
            else:
                outcome = fail("listed in tests/expected_failures.txt, but it does not fail: take it out")
        recorded = (record or {}).get("results", {}).get(test)
        if args.share and record and not complaints and outcome.status != "fail":
            if recorded is None or recorded["status"] != outcome.status:
                was = recorded["status"] if recorded else "absent"
                outcome = fail(f"not reproduced: the record says {was}, this run {outcome.status} ({outcome.reason})")
        with lock:
            results[test] = {"status": outcome.status}
            if outcome.reason and outcome.status != "ok":
                results[test]["reason"] = outcome.reason
            if not args.quiet or outcome.status == "fail":
                print(line(name, test, outcome), flush=True)
            if args.full and len(results) % 50 == 0:
                write_partial()

    if arrange:
        chosen = {t: chosen[t] for t in arrange(list(chosen), max(1, args.jobs))}
    try:
        with concurrent.futures.ThreadPoolExecutor(max(1, args.jobs)) as pool:
            list(pool.map(one, chosen.items()))
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    if not args.keep:
        shutil.rmtree(temporary, ignore_errors=True)
    for test, reason in complaints:
        print(line(name, test, fail(reason)), flush=True)

    counts = {s: sum(r["status"] == s for r in results.values()) for s in ("ok", "fail", "refused", "skip")}
    if args.full or args.update:
        RESULTS.mkdir(parents=True, exist_ok=True)
        text = json.dumps({
            "suite": name, "inputs": inputs_hash, "versions": versions_used(), "machine": platform.machine(),
            "counts": {"tests": len(results), **counts},
            **({"kept": len(done)} if args.update else {}),  # good results of an earlier record that were not run again
            **(record_extra(results) if record_extra else {}),
            "results": {t: results[t] for t in sorted(results)}}, indent=0) + "\n"
        record_path.write_text(text)
        if args.full:
            partial_path.unlink(missing_ok=True)
        for test in done:  # what the earlier part of a resumed run found counts too
            print(line(name, test, Outcome(done[test]["status"], done[test].get("reason", ""))))
    print(f"# {name}: {len(results)} of {len(tests)} tests run: {counts['ok']} ok, {counts['fail']} failed, "
          f"{counts['refused']} refused with a diagnosis, {counts['skip']} skipped", flush=True)
    sys.exit(1 if counts["fail"] or complaints else 0)
