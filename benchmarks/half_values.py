"""What values in f16 cost a model: ONNX Runtime with values rounded to f16, beside itself in f32.

    .cache/venv/bin/python benchmarks/half_values.py [--model=det] [--parts=8]

Every node's results are rounded, then those of each part of the nodes alone. Weights stay f32. Printed are the largest difference of
the first output, as a share of its peak, and how many elements differ by more than 1e-2 of it: the bar of precision=f16.
"""
import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "tests/models")]
import catalogue
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper


def rounded(model, chosen):
    """A copy where the f32 results of the nodes with these numbers go through f16."""
    out, nodes = onnx.ModelProto(), []
    out.CopyFrom(model)
    last = {o.name for o in model.graph.output}
    for number, node in enumerate(out.graph.node):
        nodes.append(node)
        name = node.output[0]
        if number in chosen and node.op_type not in ("Constant", "Shape") and name not in last:
            node.output[0] = name + "__exact"
            nodes.append(helper.make_node("Cast", [name + "__exact"], [name + "__half"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [name + "__half"], [name], to=TensorProto.FLOAT))
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    return out


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="det", choices=sorted(catalogue.MODELS))
    parser.add_argument("--parts", type=int, default=8)
    args = parser.parse_args()
    model, feeds = onnx.load(str(catalogue.MODELS[args.model].path)), catalogue.MODELS[args.model].feeds(1)
    computing = [i for i, n in enumerate(model.graph.node) if n.op_type != "Constant"]
    exact = run(model, feeds)
    peak = float(np.abs(exact).max())
    parts = [set(part.tolist()) for part in np.array_split(np.array(computing), args.parts)]
    for name, chosen in [("all nodes", set(computing)), *((f"part {i + 1} of {args.parts}", p) for i, p in enumerate(parts))]:
        error = np.abs(run(rounded(model, chosen), feeds) - exact) / peak
        print(f"{name:14} worst {error.max():.1e}, {int((error > 1e-2).sum())} of {error.size} above 1e-2", flush=True)


if __name__ == "__main__":
    main()
