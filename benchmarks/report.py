"""Writes what benchmarks/run.py measured: results.json, a Markdown table, a picture.

    python3 benchmarks/report.py FOLDER      # table and picture anew from FOLDER/results.json

Standard library only. A ratio is Ingot's time over the peer's: below 1, Ingot is faster.
"""
import json
import math
import pathlib
import sys
from xml.sax.saxutils import escape

NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "iree": "IREE", "ncnn": "ncnn"}


def verdict(ratio):
    """A difference counts where the 10-90 % band of the ratios lies on one side of 1."""
    if ratio["p90"] < 1:
        return "faster"
    return "slower" if ratio["p10"] > 1 else "even"


def digits(value):
    """Three significant digits, no exponent."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def spread(ms):
    return f"{digits(ms['median'])} ({digits(ms['p10'])}–{digits(ms['p90'])})"


def band(ratio):
    return f"**{ratio['median']:.2f}** ({ratio['p10']:.2f}–{ratio['p90']:.2f})"


def settings_text(settings):
    return ", ".join(f"{k} {str(v).lower() if isinstance(v, bool) else v}" for k, v in settings.items() if k != "threads")


def reason(side):
    """Why there is no figure, short and fit for a table; the whole text stands in results.json."""
    text = side.get("refused", "").replace("|", "/")
    return text if len(text) <= 100 else text[:99] + "…"


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def measured(result, threads):
    """Rows in which both sides ran."""
    return [r for r in result["rows"]
            if r["threads"] == threads and "ms" in r["ingot"] and "ratio" in r["peers"].get("onnxruntime", {})]


def line(row):
    head = f"{row['model']:20} {row['threads']} thread(s)"
    if "refused" in row["ingot"]:
        return f"{head}: {row['ingot']['refused']}"
    parts = [f"Ingot {digits(row['ingot']['ms']['median'])} ms"]
    for name, peer in row["peers"].items():
        if "ratio" in peer:
            parts.append(f"{NAMES[name]} {digits(peer['ms']['median'])} ms, ratio {peer['ratio']['median']:.2f} "
                         f"({peer['ratio']['p10']:.2f}..{peer['ratio']['p90']:.2f})")
    return f"{head}: " + "; ".join(parts)


def closing(result):
    found = []
    for threads in sorted({r["threads"] for r in result["rows"]}):
        ratios = [r["peers"]["onnxruntime"]["ratio"]["median"] for r in measured(result, threads)]
        if ratios:
            found.append(f"{threads} thread(s): geometric mean {geometric_mean(ratios):.2f} of ONNX Runtime's time over "
                         f"{len(ratios)} models, {min(ratios):.2f} to {max(ratios):.2f}")
    return "\n".join(found) or "nothing was measured"


def table(header, rows):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)] +
                     ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def markdown(result):
    machine = result["machine"]
    text = [f"Machine: {machine['cpu']}, {machine['cores']} cores; load average {machine['load_average']:.2f} at the start. "
            f"{result['rounds']} alternations; a figure is the median of the rounds' medians, (p10–p90) their spread. "
            "Ratio: Ingot's time over the peer's in the same round.\n"]
    mb = lambda n: digits(n / 1e6)
    for threads in sorted({r["threads"] for r in result["rows"]}):
        rows = [r for r in result["rows"] if r["threads"] == threads]
        peers = [n for n in NAMES if any(n in r["peers"] for r in rows)]
        text.append(f"\n## {threads} thread{'s' if threads > 1 else ''}\n")
        text.append("Time of a run, ms:\n")
        body = []
        for r in rows:
            cells = [r["title"]]
            if "refused" in r["ingot"]:
                cells.append(reason(r["ingot"]))
            else:
                cells.append(spread(r["ingot"]["ms"]))
            for name in peers:
                peer = r["peers"].get(name, {})
                cells.append(spread(peer["ms"]) if "ms" in peer else reason(peer))
                cells.append(f"{band(peer['ratio'])} {verdict(peer['ratio'])}" if "ratio" in peer else "")
            body.append(cells)
        text.append(table(["model", "Ingot"] + [c for n in peers for c in (NAMES[n], "ratio")], body))
        text.append("\nStart and memory (Ingot / " + " / ".join(NAMES[n] for n in peers) + "): load and first run in ms, "
                    "resident MB above an empty process of the same kind, MB of the file that is loaded; settings that won:\n")
        body = []
        for r in rows:
            sides = [r["ingot"]] + [r["peers"].get(n, {}) for n in peers]
            cell = lambda key, show: " / ".join(show(s[key]) if key in s else "–" for s in sides)
            files = [mb(r["ingot"]["archive_bytes"]) if "archive_bytes" in r["ingot"] else "–"]
            files += [mb(r["peers"][n]["model_bytes"]) if "model_bytes" in r["peers"].get(n, {}) else "–" for n in peers]
            body.append([r["title"], cell("load_ms", digits), cell("first_run_ms", digits), cell("resident_bytes", mb),
                         " / ".join(files), "; ".join(settings_text(s["settings"]) for s in sides if "settings" in s)])
        text.append(table(["model", "load", "first run", "resident", "file", "settings"], body))
    libraries = {}
    for r in result["rows"]:
        for name, peer in r["peers"].items():
            if "library_bytes" in peer:
                libraries[f"{NAMES[name]} {peer['version']}"] = peer["library_bytes"]
    text.append(f"\nLibraries: libingot {result['library_bytes'] / 1e3:.0f} kB" +
                "".join(f"; {name} {size / 1e6:.1f} MB" for name, size in libraries.items()) + ".\n")
    text.append("\n" + closing(result).replace("\n", "  \n") + "\n")
    return "\n".join(text)


def picture(result):
    """A bar a model and number of threads: how many times ONNX Runtime's speed, with the 10-90 % band."""
    threads = sorted({r["threads"] for r in result["rows"]})
    by_model = {}
    for count in threads:
        for row in measured(result, count):
            by_model.setdefault((row["model"], row["title"]), {})[count] = row["peers"]["onnxruntime"]["ratio"]
    if not by_model:
        return None
    colours = {1: "#2f6f9f", 2: "#e08a3c"}
    bar, gap, left, right, top = 11, 9, 220, 70, 66
    per_model = len(threads) * bar + gap
    width, plot = 820, 820 - left - right
    height = top + per_model * len(by_model) + 46
    longest = max(1 / r["median"] for ratios in by_model.values() for r in ratios.values())
    top_value = max(1.5, math.ceil(longest * 1.2 * 4) / 4)  # a wider band is cut off
    x = lambda value: left + plot * min(value, top_value) / top_value
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="system-ui, sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
           f'<text x="20" y="26" font-size="16" font-weight="600" fill="#222">Speed relative to ONNX Runtime on the same '
           'CPU (longer is faster)</text>']
    at = 20
    for count in threads:
        out.append(f'<rect x="{at}" y="38" width="12" height="12" fill="{colours.get(count, "#777")}"/>'
                   f'<text x="{at + 18}" y="48" fill="#444">{count} thread{"s" if count > 1 else ""}</text>')
        at += 90
    bottom = top + per_model * len(by_model)
    step = 0.5 if top_value <= 4 else 1
    for i in range(int(top_value / step) + 1):
        value = i * step
        strong = value == 1
        out.append(f'<line x1="{x(value):.1f}" y1="{top - 4}" x2="{x(value):.1f}" y2="{bottom}" '
                   f'stroke="{"#222" if strong else "#ddd"}" stroke-width="{1.5 if strong else 1}"/>'
                   f'<text x="{x(value):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#444">{value:g}×</text>')
    for index, ((_, title), ratios) in enumerate(by_model.items()):
        y = top + index * per_model
        out.append(f'<text x="{left - 10}" y="{y + len(threads) * bar / 2 + 4:.1f}" text-anchor="end" fill="#222">{escape(title)}</text>')
        for k, count in enumerate(threads):
            if count not in ratios:
                continue
            r, bar_y = ratios[count], y + k * bar
            fast, low, high = 1 / r["median"], 1 / r["p90"], 1 / r["p10"]
            middle = bar_y + (bar - 1) / 2
            out.append(f'<rect x="{left}" y="{bar_y}" width="{x(fast) - left:.1f}" height="{bar - 1}" '
                       f'fill="{colours.get(count, "#777")}"/>'
                       f'<line x1="{x(low):.1f}" y1="{middle}" x2="{x(high):.1f}" y2="{middle}" stroke="#111" '
                       'stroke-opacity="0.55"/>'
                       f'<text x="{x(high) + 5:.1f}" y="{middle + 4:.1f}" font-size="10" fill="#444">{fast:.2f}×</text>')
    versions = {p["version"] for r in result["rows"] for n, p in r["peers"].items() if n == "onnxruntime" and "version" in p}
    note = (f"ONNX Runtime {', '.join(sorted(versions))}, at the fastest of its settings per model; "
            f"{result['rounds']} alternations; lines: 10–90 % of the rounds; {result['machine']['cpu']}")
    out.append(f'<text x="20" y="{height - 10}" font-size="10" fill="#666">{escape(note)}</text></svg>')
    return "\n".join(out) + "\n"


def write(result, folder):
    """Each file whole or not at all: a run may be cut off at any time."""
    texts = {"results.json": json.dumps(result, indent=1) + "\n", "results.md": markdown(result), "results.svg": picture(result)}
    for name, text in texts.items():
        if text is not None:
            part = folder / (name + ".part")
            part.write_text(text)
            part.replace(folder / name)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    write(json.loads((folder / "results.json").read_text()), folder)
