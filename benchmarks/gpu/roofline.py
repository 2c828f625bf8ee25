"""How near a network's kernels come to what the card gave in the same run. Standard library only.

A kernel's bytes and operations are what the compiler counted for its dispatches at these dims (`ingot bench --kernels --json`): each
operand once, two operations a multiply and add. It cannot take less than bytes / bandwidth and operations / peak: its bound is the
longer of the two. `card` has what was measured: copy_gbps, and for each precision tflops of a large product of torch's on matrix
units (f16; TF32 for f32, of which our products take three).
"""


def bound_us(kernel, card, precision):
    """The least microseconds for the kernel's dispatches, and what they wait for; (None, None) where the compiler counted nothing."""
    if kernel.get("bytes") is None or kernel.get("flops") is None:
        return None, None
    memory, products = kernel["bytes"] / (card["copy_gbps"] * 1e3), kernel["flops"] / (card["tflops"][precision] * 1e6)
    return max(memory, products), "memory" if memory >= products else "products"


def shares(kernels, card, precision, run_ms):
    """Of a report's `kernels`, each between two events, and of the run without events, `run_ms`: the share of the bound in the time."""
    rows, total = [], 0
    for k in kernels:
        least, waits_for = bound_us(k, card, precision)
        row = {"kernel": k["name"], "schedule": k.get("schedule"), "dispatches": k["dispatches"], "time_us": k["time_us"], "bytes": k.get("bytes"),
               "flops": k.get("flops")}
        if least is not None and k["time_us"] > 0:
            total += least
            row |= {"of_bandwidth": k["bytes"] / (card["copy_gbps"] * 1e3) / k["time_us"], "of_peak": k["flops"] / (card["tflops"][precision] * 1e6) / k["time_us"],
                    "bound_us": least, "bound": waits_for, "of_bound": least / k["time_us"]}
        rows.append(row)
    return {"kernels": rows, "bound_us": total, "of_run": total / (run_ms * 1e3)}


def table(name, found, most=8):
    """Lines for a reader: the network, then its kernels that take longest."""
    lines = [f"{name}: {found['bound_us']:.1f} us at least, {100 * found['of_run']:.0f} % of the run",
             f"  {'us':>8} {'calls':>5} {'MB':>8} {'GFLOP':>8} {'% memory':>9} {'% products':>11}  kernel"]
    cell = lambda value, width, digits: f"{value:{width}.{digits}f}" if value is not None else f"{'-':>{width}}"
    percent = lambda row, key: 100 * row[key] if key in row else None
    for row in sorted(found["kernels"], key=lambda r: -r["time_us"])[:most]:
        mega, giga = ((row[key] / scale if row[key] is not None else None) for key, scale in (("bytes", 1e6), ("flops", 1e9)))
        lines.append(f"  {row['time_us']:8.1f} {row['dispatches']:5} {cell(mega, 8, 2)} {cell(giga, 8, 3)} {cell(percent(row, 'of_bandwidth'), 9, 1)} "
                     f"{cell(percent(row, 'of_peak'), 11, 1)}  {row['kernel']} {row['schedule'] or ''}")
    return "\n".join(lines)
