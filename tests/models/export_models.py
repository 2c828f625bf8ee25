"""Exports networks with seeded random weights to ONNX, with Debian's torch:

    /usr/bin/python3 tests/models/export_models.py FOLDER [--only=NAME]...

Torchvision's architectures (resnet50 ... convnext_tiny) and those of networks.py. No download: weights are drawn after
He from a seed per model, statistics of BatchNorm are measured layer by layer on image-like noise, so that the spread of
activations is kept through the depth and results are neither constant nor exploding; that is checked before a file is
written. A file is skipped where it is there and was made by the same scripts and torch (FOLDER/NAME.stamp).
"""
import argparse
import hashlib
import inspect
import math
import pathlib
import time
import warnings

import torch
import torchvision
from torch import nn

import networks

HERE = pathlib.Path(__file__).resolve().parent
OPSET = 17  # the last that torch 1.13 writes


def image(batch, size, seed):
    """Noise with structure at several scales, of about unit variance."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(batch, 3, size, size)
    for cells in (2, 4, 8, 16, size):
        noise = torch.randn(batch, 3, cells, cells, generator=generator)
        total += nn.functional.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
    return total / total.std()


def tokens(length, vocabulary, seed):
    return torch.randint(0, vocabulary, (1, length), generator=torch.Generator().manual_seed(seed))


def text(length, seed):
    """ids, mask (the last fifth is padding), types."""
    mask = torch.ones(1, length, dtype=torch.int64)
    mask[:, length - length // 5:] = 0
    types = torch.zeros(1, length, dtype=torch.int64)
    types[:, length // 3:] = 1
    return tokens(length, 30522, seed), mask, types


def cache(layers, heads, past, depth, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(1, heads, past, depth, generator=generator) for _ in range(2 * layers))


def vision(build, size=224):
    return dict(build=build, inputs=lambda seed: (image(1, size, seed),), calibration=lambda: (image(4, size, 99),),
                names=(["image"], ["scores"]))


def encoder(**sizes):
    return dict(build=lambda: networks.Bert(**sizes), inputs=lambda seed: text(128, seed),
                names=(["ids", "mask", "types"], ["hidden", "pooled"]))


def gpt2():
    layers = range(6)
    pairs = lambda prefix: [f"{prefix}_{part}_{i}" for i in layers for part in ("key", "value")]
    return dict(build=networks.Gpt2Step, inputs=lambda seed: (tokens(1, 16384, seed), *cache(6, 8, 128, 64, seed)),
                names=(["ids", *pairs("past")], ["logits", *pairs("present")]),
                free={name: {2: "past"} for name in pairs("past")} | {name: {2: "present"} for name in pairs("present")})


MODELS = {
    "resnet50": vision(torchvision.models.resnet50),
    "mobilenet_v3_large": vision(torchvision.models.mobilenet_v3_large),
    "efficientnet_b0": vision(torchvision.models.efficientnet_b0),
    "shufflenet_v2": vision(torchvision.models.shufflenet_v2_x1_0),
    "vit_b_16": vision(torchvision.models.vit_b_16),
    "swin_t": vision(torchvision.models.swin_t),
    "convnext_tiny": vision(torchvision.models.convnext_tiny),
    "bert_base": encoder(width=768, heads=12, layers=12, inner=3072),
    "minilm": encoder(width=384, heads=12, layers=6, inner=1536, mean_pool=True),
    "gpt2_step": gpt2(),
    "unet": dict(build=networks.UNet, names=(["noisy", "time"], ["noise"]),
                 inputs=lambda seed: (image(1, 64, seed), torch.tensor([100.0 + 300.0 * (seed % 3)]))),
    "bilstm_gru": dict(build=networks.Recurrent, names=(["frames"], ["scores"]),
                       inputs=lambda seed: (torch.randn(1, 100, 80, generator=torch.Generator().manual_seed(seed)),)),
}
NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def initialise(model, seed):
    """He: a layer's results have the variance of its inputs, 2 / fan-in where a rectifier halves it, else 1 / fan-in."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda t, std: t.normal_(0.0, std, generator=generator)
    rectified = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    owners = {id(p): m for m in model.modules() for p in m.parameters(recurse=False)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            owner, last = owners[id(parameter)], name.rsplit(".", 1)[-1]
            if isinstance(owner, NORMS) and last == "weight":
                parameter.uniform_(0.7, 1.3, generator=generator)
            elif last == "layer_scale":  # ConvNeXt starts at 1e-6, which would hide every block
                parameter.uniform_(0.2, 0.6, generator=generator)
            elif isinstance(owner, nn.Embedding):
                normal(parameter, 1.0)
            elif last in ("class_token", "pos_embedding", "relative_position_bias_table"):
                normal(parameter, 0.5)
            elif parameter.dim() < 2:
                normal(parameter, 0.1)
            else:
                fan_in = parameter[0].numel()
                if isinstance(owner, nn.ConvTranspose2d):
                    fan_in = parameter.shape[0] * parameter[0, 0].numel() // owner.stride[0] ** 2
                gain = 2.0 if rectified and isinstance(owner, nn.Conv2d) else 1.0
                normal(parameter, math.sqrt(gain / fan_in))


def calibrate(model, inputs):
    """BatchNorm's running statistics become those of one batch; few digits, so that any machine finds the same."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.train()
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        model(*inputs)
        for norm in norms:
            norm.eval()
            for statistic in (norm.running_mean, norm.running_var):
                statistic.copy_(statistic.to(torch.bfloat16).to(torch.float32))


def check(name, model, spec):
    """Results must be finite, spread, and depend on the input."""
    with torch.no_grad():
        one, two = (model(*spec["inputs"](seed)) for seed in (1, 2))
    for label, a, b in zip(spec["names"][1], *(r if isinstance(r, tuple) else (r,) for r in (one, two))):
        spread = float(a.std())
        change = float((a - b).std()) / spread if spread else 0.0
        if not math.isfinite(spread) or not 1e-3 < spread < 1e3 or change < 1e-2:
            raise SystemExit(f"{name}: {label} has a spread of {spread:.3g} and changes by {change:.3g} of it: "
                             "its weights are badly scaled")


def build(name, spec):
    torch.manual_seed(0)
    model = spec["build"]().eval()
    initialise(model, seed=int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    if "calibration" in spec:
        calibrate(model, spec["calibration"]())
    # In evaluation MultiheadAttention calls one fused operator, which ONNX does not have; it has no dropout here.
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.train()
    check(name, model, spec)
    return model


def export(name, spec, path):
    model = build(name, spec)
    options = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {} # of newer versions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, spec["inputs"](1), str(path), opset_version=OPSET, input_names=spec["names"][0],
                          output_names=spec["names"][1], dynamic_axes=spec.get("free"), do_constant_folding=True,
                          training=torch.onnx.TrainingMode.PRESERVE, **options)
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", action="append", choices=sorted(MODELS))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    digest = hashlib.sha256(f"{torch.__version__} {torchvision.__version__}".encode())
    for script in (HERE / "export_models.py", HERE / "networks.py"):
        digest.update(script.read_bytes())
    for name, spec in MODELS.items():
        path, stamp = args.folder / f"{name}.onnx", args.folder / f"{name}.stamp"
        made_by = digest.hexdigest()
        if args.only and name not in args.only:
            continue
        if path.exists() and stamp.exists() and stamp.read_text() == made_by:
            continue
        started = time.monotonic()
        part = path.with_suffix(".part")
        export(name, spec, part)
        part.replace(path)
        stamp.write_text(made_by)
        print(f"{name}: {path.stat().st_size / 1e6:.1f} MB in {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
