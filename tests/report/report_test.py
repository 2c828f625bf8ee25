"""What benchmarks/report.py makes of seeded results: verdicts, means, rows without figures, and a well-formed picture.

Standard library only. Prints one result line a test.
"""
import json
import pathlib
import random
import statistics
import sys
import tempfile
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "benchmarks"))
import report

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "benchmarks/gpu"))
import roofline


def spread(values):
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "p10": ordered[0], "p90": ordered[-1], "rounds": values}


def peer_row(rng, ours, scale):
    theirs = [o * scale * rng.uniform(0.9, 1.1) for o in ours]
    return {"settings": {"threads": 1, "graph": "all", "arena": True}, "version": "9.9", "ms": spread(theirs),
            "ratio": spread([a / b for a, b in zip(ours, theirs)]), "load_ms": 20.0, "first_run_ms": 3.0,
            "resident_bytes": 5_000_000, "peak_bytes": 6_000_000, "library_bytes": 30_000_000, "model_bytes": 1_000_000}


def row(rng, name, threads):
    ours = [rng.uniform(1, 1.2) * 10 ** rng.uniform(-1, 2) for _ in range(7)]
    return {"model": name, "title": f"{name} <3 & more", "threads": threads,
            "ingot": {"settings": {"device": "local-sync"}, "ms": spread(ours), "archive_bytes": 900_000, "load_ms": 0.5,
                      "first_run_ms": 0.2, "resident_bytes": 2_000_000, "peak_bytes": 2_100_000},
            "peers": {"onnxruntime": peer_row(rng, ours, rng.uniform(0.5, 3))}}


def refused_row(name, threads):
    full = row(random.Random(1), name, threads)
    del full["peers"]["onnxruntime"]["ratio"]
    full["ingot"] = {"refused": "aotc: exit status 1: operator Foo | is not supported"}
    return full


def result(seed, models=5, threads=(1, 2)):
    rng = random.Random(seed)
    rows = [row(rng, f"m{i}", t) for t in threads for i in range(models)] + [refused_row("bad", threads[0])]
    return {"rows": rows, "rounds": 7, "library_bytes": 150_000,
            "machine": {"cpu": "Some <CPU> & more", "cores": 2, "load_average": 0.1}}


def verdicts():
    for p10, p90, expected in ((0.5, 0.9, "faster"), (0.9, 1.1, "even"), (1.01, 1.4, "slower"), (0.8, 1.0, "even")):
        found = report.verdict({"median": 1, "p10": p10, "p90": p90})
        assert found == expected, (p10, p90, found)


def three_digits():
    for value, text in ((0, "0"), (0.0123456, "0.0123"), (1.5, "1.50"), (12.345, "12.3"), (123.45, "123"), (1234.5, "1234")):
        assert report.digits(value) == text, (value, report.digits(value))


def means():
    for seed in range(20):
        made = result(seed)
        ratios = [r["peers"]["onnxruntime"]["ratio"]["median"] for r in made["rows"][:5]]
        product = 1.0
        for value in ratios:
            product *= value
        first = report.closing(made).splitlines()[0]
        assert f"geometric mean {product ** 0.2:.2f} of" in first and "over 5 models" in first, first
    assert report.closing({**made, "rows": [refused_row("bad", 1)]}) == "nothing was measured"


def tables():
    for seed in range(20):
        made = result(seed)
        text = report.markdown(made)
        for block in text.split("\n\n"):
            lines = [line for line in block.splitlines() if line.startswith("|")]
            assert len({line.count("|") for line in lines}) <= 1, block
        assert "operator Foo / is not supported" in text, "the reason of a refused row"
        for made_row in made["rows"]:
            assert made_row["title"] in text


def pictures():
    for seed in range(20):
        made = result(seed, models=1 + seed)
        tree = xml.etree.ElementTree.fromstring(report.picture(made))
        name = "{http://www.w3.org/2000/svg}"
        bars = [e for e in tree.iter(name + "rect") if e.get("x") == "220"]
        assert len(bars) == 2 * (1 + seed), (seed, len(bars))
        width, height = float(tree.get("width")), float(tree.get("height"))
        for e in tree.iter(name + "rect"):
            assert float(e.get("x", 0)) + float(e.get("width")) <= width and float(e.get("y", 0)) < height
        # The faster, the longer, on one scale.
        widths = sorted(float(e.get("width")) for e in bars)
        speeds = sorted(1 / r["peers"]["onnxruntime"]["ratio"]["median"] for r in made["rows"] if "ms" in r["ingot"])
        for speed, bar in zip(speeds, widths):
            assert abs(bar - speed * widths[-1] / speeds[-1]) < 0.2, (seed, speed, bar)
    assert report.picture({**made, "rows": [refused_row("bad", 1)]}) is None


def files():
    with tempfile.TemporaryDirectory() as folder:
        made = result(3)
        report.write(made, pathlib.Path(folder))
        names = sorted(p.name for p in pathlib.Path(folder).iterdir())
        assert names == ["results.json", "results.md", "results.svg"], names
        assert json.loads((pathlib.Path(folder) / "results.json").read_text()) == made


def shares_of_a_card():
    card = {"copy_gbps": 2000.0, "tflops": {"f16": 500.0, "f32": 250.0}}
    kernel = lambda name, us, bytes_, flops: {"name": name, "schedule": "s", "dispatches": 1, "time_us": us, "bytes": bytes_, "flops": flops}
    kernels = [kernel("map", 10.0, 10_000_000, 1_000_000), kernel("product", 20.0, 2_000_000, 5_000_000_000), kernel("unknown", 5.0, None, None)]
    found = roofline.shares(kernels, card, "f16", 0.03)
    moved, product, unknown = found["kernels"]
    assert (moved["bound"], moved["bound_us"]) == ("memory", 5.0) and abs(moved["of_bandwidth"] - 0.5) < 1e-9, moved
    assert (product["bound"], product["bound_us"]) == ("products", 10.0) and abs(product["of_peak"] - 0.5) < 1e-9, product
    assert abs(product["of_bandwidth"] - 0.05) < 1e-9 and "of_bound" not in unknown
    assert found["bound_us"] == 15.0 and abs(found["of_run"] - 0.5) < 1e-9, found
    assert roofline.shares(kernels, card, "f32", 0.03)["kernels"][1]["bound_us"] == 20.0
    lines = roofline.table("net f16", found).splitlines()
    assert lines[0] == "net f16: 15.0 us at least, 50 % of the run" and [l.split()[-2] for l in lines[2:]] == ["product", "map", "unknown"], lines
    assert lines[2].split()[:6] == ["20.0", "1", "2.00", "5.000", "5.0", "50.0"] and lines[4].split()[2:6] == ["-"] * 4, lines
    assert len(roofline.table("net", found, most=1).splitlines()) == 3


failed = 0
for test in (verdicts, three_digits, means, tables, pictures, files, shares_of_a_card):
    try:
        test()
        print(f"ok report/{test.__name__}")
    except Exception as error:
        failed += 1
        print(f"not ok report/{test.__name__} # {type(error).__name__}: {error}")
sys.exit(1 if failed else 0)
