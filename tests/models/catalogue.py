"""The models that tests and benchmarks share: where each file lies, how it is compiled, what it is fed.

The first group comes out of packages (tools/setup.sh models), the second is exported by export_models.py
(tools/setup.sh torch-models). Inputs are drawn from a seed; images have structure at several scales, because white
noise says nothing after the first pooling.
"""
import dataclasses
import typing

import harness
import numpy as np


@dataclasses.dataclass
class Model:
    name: str
    path: object
    feeds: typing.Callable  # seed -> {input name: array}
    flags: tuple = ()       # of aotc; without them the file's own dims hold
    title: str = ""

    def __post_init__(self):
        self.title = self.title or self.name


def image(shape, seed):
    """f32 noise of about unit variance; `shape` is N,C,H,W."""
    rng = np.random.default_rng(seed)
    total = np.zeros(shape, np.float32)
    height, width = shape[2:]
    for cells in (2, 4, 8, 16):
        coarse = rng.standard_normal((*shape[:2], cells, cells)).astype(np.float32)
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        total += coarse[:, :, rows][:, :, :, columns]
    total += rng.standard_normal(shape).astype(np.float32)
    return np.ascontiguousarray(total / total.std())


def channels_last(shape, seed):
    n, h, w, c = shape
    return np.ascontiguousarray(np.tanh(image((n, c, h, w), seed)).transpose(0, 2, 3, 1))


def page(shape, seed):
    """Lines of dark strokes on white, as a text detector takes it: on noise it finds nothing, and its results of about
    1e-7 show nothing."""
    rng = np.random.default_rng(seed)
    height, width = shape[2:]
    picture = np.ones((height, width), np.float32)
    top = int(rng.integers(8, 24))
    while top + 40 < height:
        size, left, end = (int(rng.integers(*r)) for r in ((14, 34), (8, 60), (width // 2, width - 20)))
        stroke = max(2, size // 8)
        while left + size < end:
            if rng.random() < 0.12:  # between words
                left += size // 2
                continue
            for _ in range(3):
                if rng.random() < 0.6:
                    at = left + int(rng.integers(0, size // 2))
                    picture[top:top + size, at:at + stroke] = -1
                else:
                    at = top + int(rng.integers(0, size - stroke))
                    picture[at:at + stroke, left:left + size // 2] = -1
            left += size // 2 + stroke + 2
        top += int(size * rng.uniform(1.5, 2.5))
    noisy = 1.8 * picture + 0.05 * rng.standard_normal(shape)
    return np.ascontiguousarray(noisy.astype(np.float32))


def text(length, seed):
    """Token ids, a mask whose end is padding, and two sentences' types."""
    rng = np.random.default_rng(seed)
    mask = np.ones((1, length), np.int64)
    mask[:, length - int(rng.integers(1, length // 3)):] = 0
    types = (np.arange(length) > length // 3).astype(np.int64)[None]
    return {"ids": rng.integers(0, 30522, (1, length)), "mask": mask, "types": types}


def gpt2_step(past, seed):
    rng = np.random.default_rng(seed)
    feeds = {"ids": rng.integers(0, 16384, (1, 1))}
    for layer in range(6):
        for part in ("key", "value"):
            feeds[f"past_{part}_{layer}"] = rng.standard_normal((1, 8, past, 64)).astype(np.float32)
    return feeds


def gpt2_flags(past):
    return tuple(f"--input-shape=past_{part}_{layer}=1x8x{past}x64" for layer in range(6) for part in ("key", "value"))


def unet(seed):
    rng = np.random.default_rng(seed)
    return {"noisy": image((1, 3, 64, 64), seed), "time": rng.uniform(0, 1000, 1).astype(np.float32)}


def _models():
    packaged, exported = harness.MODELS, harness.MODELS / "torch"
    photo = lambda seed: {"image": image((1, 3, 224, 224), seed)}
    yield Model("det", packaged / "ch_PP-OCRv4_det_infer.onnx", lambda s: {"x": page((1, 3, 640, 640), s)},
                ("--input-shape=x=1x3x640x640",), "PP-OCRv4 det 640x640")
    yield Model("rec", packaged / "ch_PP-OCRv4_rec_infer.onnx", lambda s: {"x": np.tanh(image((1, 3, 48, 320), s))},
                ("--input-shape=x=1x3x48x320",), "PP-OCRv4 rec 48x320")
    yield Model("cls", packaged / "ch_ppocr_mobile_v2.0_cls_infer.onnx",
                lambda s: {"x": np.tanh(image((1, 3, 48, 192), s))}, ("--input-shape=x=1x3x48x192",), "PP-OCR cls 48x192")
    yield Model("face-front", packaged / "face_detection_front_128x128_barracuda.onnx",
                lambda s: {"input:0": channels_last((1, 128, 128, 3), s)}, (), "BlazeFace front 128x128")
    yield Model("face-back", packaged / "face_detection_back_256x256_barracuda.onnx",
                lambda s: {"input:0": channels_last((1, 256, 256, 3), s)}, (), "BlazeFace back 256x256")
    yield Model("magika", packaged / "magika.onnx",
                lambda s: {"bytes": np.random.default_rng(s).integers(0, 257, (1, 2048), np.int32)},
                ("--input-shape=bytes=1x2048",), "magika")
    for name, title in (("resnet50", "ResNet-50"), ("mobilenet_v3_large", "MobileNetV3-L"),
                        ("efficientnet_b0", "EfficientNet-B0"), ("shufflenet_v2", "ShuffleNetV2"),
                        ("vit_b_16", "ViT-B/16"), ("swin_t", "Swin-T"), ("convnext_tiny", "ConvNeXt-T")):
        yield Model(name, exported / f"{name}.onnx", photo, (), title)
    yield Model("bert_base", exported / "bert_base.onnx", lambda s: text(128, s), (), "BERT-like base, T=128")
    yield Model("minilm", exported / "minilm.onnx", lambda s: text(128, s), (), "MiniLM-like, T=128")
    yield Model("gpt2_step", exported / "gpt2_step.onnx", lambda s: gpt2_step(128, s), gpt2_flags(128),
                "GPT-2-like step, 128 cached")
    yield Model("unet", exported / "unet.onnx", unet, (), "U-Net 64x64, attention")
    yield Model("bilstm_gru", exported / "bilstm_gru.onnx",
                lambda s: {"frames": np.random.default_rng(s).standard_normal((1, 100, 80)).astype(np.float32)}, (),
                "BiLSTM + GRU, T=100")


MODELS = {model.name: model for model in _models()}
