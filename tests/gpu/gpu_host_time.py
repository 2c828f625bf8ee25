"""That benchmarks/gpu/host_time.cpp runs, over the mock of libcuda, where its times say nothing; and what `ingot bench` says of kernels,
which benchmarks/gpu/run.py --roofline goes by.

    .cache/venv/bin/python tests/gpu/gpu_host_time.py [--build=DIR] [--only='host-time-*']
"""
import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib")]
import harness
import onnx
from onnx import TensorProto, helper

LIMIT = 900  # seconds of one call, on a busy machine


def archive_of(tools, scratch):
    """(path of an archive for cuda, of one kernel with 8 x 64 elements in and one out; '') or (None, what is wrong)."""
    value = lambda name, dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("ReduceSum", ["r"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", [8, 64])], [value("y", [1, 1])])
    (scratch / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    status, _, err = tools.compile(scratch / "model.onnx", scratch / "model.ingot", "--target=cuda")
    return (scratch / "model.ingot", "") if status == 0 else (None, f"aotc: exit status {status}: {err}")


def times(tools, program, flags, scratch):
    archive, wrong = archive_of(tools, scratch)
    if wrong:
        return harness.fail(wrong)
    status, out, err = tools.call([program, archive, "--rounds=3", "--runs=5", "--json", *flags], timeout=LIMIT)
    if status != 0:
        return harness.fail(f"exit status {status}: {err}")
    found = json.loads(out)
    good = 0 < found["host_us"] < found["run_us"] and 0 < found["launch_us"] < found["run_us"]
    return harness.ok() if good else harness.fail(out)


def bar(tools, program, scratch):
    archive, wrong = archive_of(tools, scratch)
    if wrong:
        return harness.fail(wrong)
    status, _, err = tools.call([program, archive, "--rounds=1", "--runs=1", "--check=0.000001"], timeout=LIMIT)
    return harness.ok() if status == 1 and "above the bar" in err else harness.fail(f"exit status {status}: {err}")


def refused(tools, program):
    """Flags that are none, numbers that are none, no model: exit status 2, and a message that says so."""
    for flags, says in (["x", "--chek=2"], "no such flag"), (["x", "--check=two"], "a number from"), (["x", "--runs=0"], "a number from"), ([], "usage:"), (["x", "y"], "second model"):
        status, _, err = tools.call([program, *flags], timeout=LIMIT)
        if status != 2 or says not in err:
            return harness.fail(f"{flags}: exit status {status}: {err}")
    return harness.ok()


def touched(tools, scratch):
    """Each operand once, and the compiler's count of operations."""
    archive, wrong = archive_of(tools, scratch)
    if wrong:
        return harness.fail(wrong)
    status, out, err = tools.call([tools.ingot, "bench", archive, "--device=cuda:0", "--runs=2", "--kernels", "--json", "--on-device"], timeout=LIMIT)
    if status != 0:
        return harness.fail(f"ingot bench: exit status {status}: {err}")
    kernels = json.loads(out)["kernels"]
    good = [k["bytes"] for k in kernels] == [4 * (8 * 64 + 1)] and kernels[0]["flops"] >= 512
    return harness.ok() if good else harness.fail(out[-400:])


def prepare(tools):
    os.environ["LD_LIBRARY_PATH"] = str(tools.build / "tests/mock")
    program = tools.build / "benchmarks/gpu_host_time"
    tests = {
        "host-time-of-host-memory": lambda scratch: times(tools, program, [], scratch),
        "host-time-of-device-memory": lambda scratch: times(tools, program, ["--on-device"], scratch),
        "host-time-above-the-bar": lambda scratch: bar(tools, program, scratch),
        "host-time-refused-flags": lambda scratch: refused(tools, program),
    }
    if not program.exists():
        tests = {name: lambda scratch: harness.skip("no benchmarks in this build") for name in tests}
    tests["bytes-and-operations"] = lambda scratch: touched(tools, scratch)
    return tests, harness.hash_of(HERE / "gpu_host_time.py")


if __name__ == "__main__":
    harness.run_suite("gpu-host-time", prepare, lambda: {"onnx": onnx.__version__})
