"""5,000 generated single nodes, seeded, each compiled by aotc, run, and compared with ONNX Runtime.

    .cache/venv/bin/python tests/onnx/generated.py [--build=DIR] [--only='*-Conv'] [--full | --share=N]

Which operators are drawn is what `aotc --list-operators` and node_generator.FAMILIES share. A case that ONNX Runtime
itself cannot run is drawn again with the next sub-seed.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import node_generator
import numpy as np
import onnx
import onnxruntime
import suite

COUNT = 5000
SEED = 20261122
TOLERANCES = {"float16": (4e-3, 2e-3), "float32": (1e-3, 1e-4), "float64": (1e-6, 1e-7)}


def reference(model, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))


def draw(index, operator):
    for attempt in range(40):
        case = node_generator.FAMILIES[operator](node_generator.Draw(f"{SEED}-{index}-{attempt}"), operator)
        try:
            model, feeds = node_generator.model_of(case)
            expected = reference(model, feeds)
        except Exception:
            continue
        return case, model, feeds, expected
    raise RuntimeError(f"no case of {operator} that ONNX Runtime runs in 40 draws")


def describe(case):
    shapes = [("-" if a is None else f"{a.dtype}{list(np.shape(a))}{'=' + str(np.asarray(a).tolist()) if c and a.size < 9 else ''}")
              for a, c in case.inputs]
    attributes = {k: v if not isinstance(v, onnx.TensorProto) else "tensor" for k, v in case.attributes.items()}
    return f"opset {case.opset} {' '.join(shapes)} {attributes}"


def one_test(tools, index, operator, scratch):
    case, model, feeds, expected = draw(index, operator)
    path = scratch / "model.onnx"
    path.write_bytes(model.SerializeToString())
    # Half of the cases run the default versions, half the one of this machine: as much coverage for less time.
    flags = [] if index % 2 else ["--target=llvm-cpu:host"]
    status, out, err = tools.compile(path, scratch / "model.ingot", *flags)
    if status != 0:
        return harness.fail(f"aotc: exit status {status}: {err} [{describe(case)}]")
    outputs, status, err = tools.run(scratch / "model.ingot", feeds, list(expected), scratch)
    if outputs is None:
        return harness.fail(f"ingot run: exit status {status}: {err} [{describe(case)}]")
    for name, value in expected.items():
        relative, of_peak = TOLERANCES.get(str(value.dtype), (1e-3, 1e-4))
        wrong = harness.agrees(outputs[name], np.asarray(value), relative, of_peak, proves=False)
        if wrong:
            return harness.fail(f"{name}: {wrong} [{describe(case)}]")
    return harness.ok()


def prepare(tools):
    table = suite.supported_operators(tools)
    deck = []
    for operator in sorted(node_generator.FAMILIES):
        if ("", operator) in table:
            deck += [operator] * node_generator.WEIGHTS.get(operator, 1)
    if not deck:
        raise SystemExit("aotc lists no operator that the generator knows")
    tests = {}
    for index in range(COUNT):
        operator = deck[index % len(deck)]
        tests[f"{index:04}-{operator}"] = lambda scratch, i=index, o=operator: one_test(tools, i, o, scratch)
    here = pathlib.Path(__file__)
    return tests, harness.hash_of(here, here.parent / "node_generator.py", onnx.__version__, onnxruntime.__version__,
                                  np.__version__, deck)


if __name__ == "__main__":
    harness.run_suite("onnx-generated", prepare, lambda: {"onnx": onnx.__version__, "numpy": np.__version__,
                                                          "onnxruntime": onnxruntime.__version__})
