"""Networks on a GPU beside torch on the same card, in the same run: f16 and f32, batch 1, inputs and results in the card's memory.

    python3 benchmarks/gpu/run.py --aotc=FILE --ingot=FILE [--only='resnet50,bert_base'] [--precision=f16,f32] [--target=cuda]
        [--inductor='resnet50,...'] [--mode=default] [--rounds=3] [--roofline] [--json=FILE]

On a machine with a GPU and python3 with torch and torchvision; the networks are exported there from their seeds. Torch runs as one CUDA
graph: plain, with channels_last where there are images, and, for the networks that --inductor names, compiled by inductor and then as
one CUDA graph: frozen, in the mode that --mode names (max-autotune without its own graphs, unless told; it takes minutes a network). f32
is without TF32, f16 is model.half(). The best of these counts. Rounds alternate; a line a network: medians, the ratio, and torch's ways
each. --roofline: also how near each kernel comes to the card's bandwidth and matrix units, measured first (roofline.py).
"""
import argparse
import fnmatch
import json
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/models"), str(ROOT / "tests/gpu")]
import export_models
import networks_on_device as device
import roofline
import torch
import torchvision

NETWORKS = {**export_models.MODELS, "mobilenet_v2": export_models.vision(torchvision.models.mobilenet_v2)}


def torch_ways(model, inputs, half, mode):
    """{way: function}; what a graph cannot hold is left out, with the reason. mode: of inductor, or None."""
    ways, reasons = {}, {}
    cast = lambda t: (t.half() if half and t.is_floating_point() else t).cuda()
    model = (model.half() if half else model).cuda().eval()
    inputs = [cast(t) for t in inputs]

    def add(name, make):
        try:
            ways[name] = device.graph_of(make(), before=3)
        except Exception as e:  # of any library that takes part
            reasons[name] = " ".join(str(e).split())[:120]

    add("graph", lambda: lambda: model(*inputs))
    if inputs[0].dim() == 4:
        last = [t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs]

        def channels_last():
            other = model.to(memory_format=torch.channels_last)
            return lambda: other(*last)

        add("channels_last", channels_last)
        inputs = last
    if mode:

        def compiled():
            import torch._inductor.config as config

            config.freezing = True
            compiled_model = torch.compile(model, mode=mode)
            compiled_model(*inputs)
            return lambda: compiled_model(*inputs)

        add("inductor", compiled)
    return ways, reasons


def measure_card():
    """What torch gets out of the card: bytes a second of a copy, read and written; operations of a large product on matrix units."""
    source = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    card = {"copy_gbps": 2 * source.numel() / device.milliseconds(lambda: target.copy_(source), 0.5) / 1e6, "tflops": {}}
    n = 8192
    for precision, dtype in (("f16", torch.float16), ("f32", torch.float32)):
        a, b = torch.randn(n, n, dtype=dtype, device="cuda"), torch.randn(n, n, dtype=dtype, device="cuda")
        torch.backends.cuda.matmul.allow_tf32 = True
        card["tflops"][precision] = 2 * n**3 / device.milliseconds(lambda: a @ b, 1) / 1e9
        torch.backends.cuda.matmul.allow_tf32 = False
    return card


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--aotc", required=True)
    parser.add_argument("--ingot", required=True)
    parser.add_argument("--only", default="*")
    parser.add_argument("--precision", default="f16,f32")
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--inductor", default="")
    parser.add_argument("--mode", default="max-autotune-no-cudagraphs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--roofline", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    report = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "target": args.target, "inductor_mode": args.mode, "rounds": args.rounds, "models": {}}
    if args.roofline:
        card = report["measured"] = measure_card()
        print(f"{report['card']}: copy {card['copy_gbps']:.0f} GB/s, product of f16 {card['tflops']['f16']:.0f} TFLOP/s, of TF32 {card['tflops']['f32']:.0f}", flush=True)
    named = lambda name, list_of: any(fnmatch.fnmatch(name, p) for p in list_of.split(","))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name, spec in NETWORKS.items():
            if not named(name, args.only):
                continue
            onnx, archive = folder / "model.onnx", folder / "model.ingot"
            for precision in args.precision.split(","):
                model = export_models.export(name, spec, onnx)
                inputs, given, shapes = device.given_inputs(spec, folder)
                device.call(args.aotc, onnx, "-o", archive, f"--target={args.target},precision={precision}", "--progress=off", *shapes)
                uri = args.target.split(":")[0] + f":0?cache={folder}"
                with torch.no_grad(), torch.device("cuda"):
                    ways, reasons = torch_ways(model, inputs, precision == "f16", args.mode if args.inductor and named(name, args.inductor) else None)
                    ours, theirs = [], {way: [] for way in ways}
                    for _ in range(args.rounds):
                        ours.append(json.loads(device.call(args.ingot, "bench", archive, f"--device={uri}", *given, "--on-device", "--seconds=0.4", "--json"))["median_ms"])
                        for way, run in ways.items():
                            theirs[way].append(device.milliseconds(run, 0.4))
                torch_ms = {way: statistics.median(t) for way, t in theirs.items()}
                best, ms = min(torch_ms.values(), default=None), statistics.median(ours)
                report["models"][f"{name}-{precision}"] = {"ms": ms, "torch_ms": torch_ms, "ratio": ms / best if best else None, "not_run": reasons}
                print(f"{name:20} {precision}  {ms:7.3f} ms  torch {best or 0:7.3f} ms  ratio {ms / best if best else 0:5.2f}  "
                      + " ".join(f"{w}={t:.3f}" for w, t in torch_ms.items()) + ("  " + str(reasons) if reasons else ""), flush=True)
                if args.roofline:
                    profile = json.loads(device.call(args.ingot, "bench", archive, f"--device={uri}", *given, "--on-device", "--kernels", "--seconds=0.4", "--json"))
                    found = report["models"][f"{name}-{precision}"]["roofline"] = roofline.shares(profile["kernels"], card, precision, ms)
                    print(roofline.table(f"{name} {precision}", found), flush=True)
                if args.json:
                    pathlib.Path(args.json).write_text(json.dumps(report, indent=1))
                del model, ways
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
