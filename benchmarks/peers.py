"""One peer with one model in a process of its own, driven over standard input; benchmarks/run.py starts it.

    .cache/bench-venv/bin/python benchmarks/peers.py convert PEER MODEL.onnx FEEDS.npz FOLDER SETTINGS
    .cache/bench-venv/bin/python benchmarks/peers.py serve   PEER MODEL.onnx FEEDS.npz FOLDER SETTINGS

`convert` makes what the peer loads, where that is not the ONNX file itself. `serve` loads and runs once, prints what
that took, and then answers lines: `run SECONDS` (median of as many runs as fit), `outputs FILE.npz`, `memory`. Answers
are JSON, one a line. Memory is what the process holds resident above what it held with the package imported and the
inputs loaded, but no model.

SETTINGS is a JSON object of the peer's own settings plus `threads`; CHOICES says which ones run.py tries.
"""
import importlib.metadata
import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

# For each peer its settings in the order in which they are tried; the first value is where the search starts. Those
# of SPREAD make a difference only with several threads.
CHOICES = {
    "onnxruntime": {"graph": ["all", "extended", "basic"], "arena": [True, False], "spin": [True, False]},
    "openvino": {"hint": ["latency", "throughput"], "pinning": [True, False]},
    "iree": {"level": ["O3", "O2"], "tiling": [False, True], "driver": ["local-sync", "local-task"]},
    "ncnn": {"winograd": [True, False], "packing": [True, False]},
}
SPREAD = {"spin", "pinning"}


def resident(field="VmRSS"):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def file_sizes(folder, patterns):
    """Bytes of a package's shared libraries, links not followed."""
    found = {p for pattern in patterns for p in pathlib.Path(folder).rglob(pattern) if not p.is_symlink()}
    return sum(p.stat().st_size for p in found)


def call_tool(name, *command, **options):
    """A program of the peer's package; where it fails, its first line about an error is the reason."""
    program = pathlib.Path(sys.executable).parent / name
    done = subprocess.run([program, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no message")
        sys.exit(f"{program.name}: exit status {done.returncode}: {reason}")


class OnnxRuntime:
    """Inputs and outputs are bound once, so that no run allocates or copies them."""

    def __init__(self, model, feeds, folder, settings):
        import onnxruntime as ort
        self.ort, self.model, self.feeds, self.settings = ort, model, feeds, settings
        self.version = ort.__version__
        self.library_bytes = file_sizes(pathlib.Path(ort.__file__).parent / "capi",
                                        ["libonnxruntime.so*"])
        self.model_bytes = pathlib.Path(model).stat().st_size

    def load(self):
        ort, options = self.ort, self.ort.SessionOptions()
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = {"all": levels.ORT_ENABLE_ALL, "extended": levels.ORT_ENABLE_EXTENDED,
                                            "basic": levels.ORT_ENABLE_BASIC}[self.settings["graph"]]
        options.intra_op_num_threads = self.settings["threads"]
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = options.enable_mem_pattern = self.settings["arena"]
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if self.settings.get("spin", True) else "0")
        self.session = ort.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        self.names = [o.name for o in self.session.get_outputs()]
        self.binding = self.session.io_binding()
        for name, value in self.feeds.items():
            self.binding.bind_cpu_input(name, value)
        for name in self.names:
            self.binding.bind_output(name)

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def settle(self):
        """After the first run the shapes of the results are known, and their memory is used again."""
        values = self.binding.get_outputs()
        self.binding.clear_binding_outputs()
        for name, value in zip(self.names, values):
            self.binding.bind_ortvalue_output(name, value)

    def outputs(self):
        return {name: value.numpy() for name, value in zip(self.names, self.binding.get_outputs())}


class OpenVino:
    """f32 throughout: by default it rounds to bfloat16 where the machine has matrix units."""

    def __init__(self, model, feeds, folder, settings):
        import openvino
        self.openvino, self.model, self.feeds, self.settings = openvino, model, feeds, settings
        self.version = openvino.__version__.split("-")[0]
        self.library_bytes = file_sizes(pathlib.Path(openvino.__file__).parent / "libs",
                                        ["libopenvino.so*", "libopenvino_intel_cpu_plugin.so*",
                                         "libopenvino_onnx_frontend.so*", "libtbb.so*"])
        self.model_bytes = pathlib.Path(model).stat().st_size

    def load(self):
        core = self.openvino.Core()
        model = core.read_model(self.model)
        model.reshape({name: list(value.shape) for name, value in self.feeds.items()})
        config = {"INFERENCE_NUM_THREADS": self.settings["threads"], "NUM_STREAMS": 1,
                  "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": self.settings["hint"].upper(),
                  "ENABLE_CPU_PINNING": self.settings.get("pinning", True)}
        self.compiled = core.compile_model(model, "CPU", config)
        self.names = [next(iter(o.get_names())) for o in self.compiled.outputs]
        self.request = self.compiled.create_infer_request()
        for name, value in self.feeds.items():
            self.request.set_tensor(name, self.openvino.Tensor(value, shared_memory=True))

    def run(self):
        self.request.infer()

    def settle(self):
        pass

    def outputs(self):
        result = {}
        for index, output in enumerate(self.compiled.outputs):
            for name in output.get_names():
                result[name] = np.array(self.request.get_output_tensor(index).data)
        return result


class Iree:
    """Compiled ahead of time for this very CPU; inputs lie in device buffers before the run."""

    def __init__(self, model, feeds, folder, settings):
        self.feeds, self.settings = feeds, settings
        kind = f"{settings['level']}-{'tiled' if settings['tiling'] else 'plain'}"
        self.vmfb = pathlib.Path(folder) / f"iree-{kind}.vmfb"
        if self.vmfb.exists():
            import iree.runtime
            self.rt = iree.runtime
            self.version = importlib.metadata.version("iree-base-runtime")
            self.library_bytes = file_sizes(pathlib.Path(self.rt.__file__).parent.parent / "_runtime_libs", ["*.so"])
            self.model_bytes = self.vmfb.stat().st_size

    def convert(self, model, folder):
        if self.vmfb.exists():
            return
        import onnx
        fixed = onnx.load(model)
        for value in fixed.graph.input:
            if value.name in self.feeds:
                for dim, size in zip(value.type.tensor_type.shape.dim, self.feeds[value.name].shape):
                    dim.dim_value = size
        source, mlir = pathlib.Path(folder) / "fixed.onnx", pathlib.Path(folder) / "fixed.mlir"
        onnx.save(fixed, str(source))
        call_tool("iree-import-onnx", source, "-o", mlir, "--opset-version=17")
        part = self.vmfb.with_suffix(".part")
        call_tool("iree-compile", mlir, "-o", part, "--iree-hal-target-device=local",
                  "--iree-hal-local-target-device-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host",
                  "--iree-llvmcpu-fail-on-out-of-bounds-stack-allocation=false",
                  f"--iree-opt-level={self.settings['level']}",
                  f"--iree-opt-data-tiling={'true' if self.settings['tiling'] else 'false'}")
        part.replace(self.vmfb)
        source.unlink()
        mlir.unlink()

    def load(self):
        rt = self.rt
        if self.settings["driver"] == "local-task":
            rt.flags.parse_flags("--task_topology_group_count=%d" % self.settings["threads"])
        config = rt.Config(self.settings["driver"])
        self.context = rt.SystemContext(config=config)
        module = rt.VmModule.mmap(self.context.instance, str(self.vmfb))
        self.context.add_vm_module(module)
        name = next(n for n in module.function_names if not n.startswith("__") and not n.endswith("$async"))
        self.function = getattr(self.context.modules[module.name], name)
        self.arguments = [rt.asdevicearray(config.device, value) for value in self.feeds.values()]

    def run(self):
        self.result = self.function(*self.arguments)

    def settle(self):
        pass

    def outputs(self):
        values = self.result if isinstance(self.result, (tuple, list)) else [self.result]
        return {str(i): np.asarray(v.to_host()) for i, v in enumerate(values)}


class Ncnn:
    """Batch of one is no axis in ncnn; float32 storage and arithmetic, as for everybody here."""

    def __init__(self, model, feeds, folder, settings):
        self.feeds, self.settings, self.folder = feeds, settings, pathlib.Path(folder)
        self.param, self.bin = self.folder / "model.ncnn.param", self.folder / "model.ncnn.bin"
        if self.param.exists():
            import ncnn
            self.ncnn, self.version = ncnn, ncnn.__version__
            self.library_bytes = file_sizes(pathlib.Path(ncnn.__file__).parent, ["*.so"])
            self.model_bytes = self.param.stat().st_size + self.bin.stat().st_size

    def convert(self, model, folder):
        if self.param.exists():
            return
        kinds = {"float32": "f32", "int64": "i64", "int32": "i32"}
        shapes = ",".join("[" + ",".join(map(str, v.shape)) + "]" + kinds[str(v.dtype)] for v in self.feeds.values())
        copy = self.folder / "model.onnx"
        copy.unlink(missing_ok=True)
        copy.symlink_to(pathlib.Path(model).resolve())
        # The package's own launcher imports torch, which only its tracer needs.
        package = importlib.util.find_spec("pnnx")
        if package is None:
            sys.exit("pnnx is not installed")
        call_tool(pathlib.Path(package.origin).parent / "pnnx", copy, f"inputshape={shapes}", "fp16=0", cwd=self.folder)
        if not self.param.exists():
            raise RuntimeError("pnnx made no ncnn model")

    def load(self):
        self.net = self.ncnn.Net()
        options = self.net.opt
        options.num_threads = self.settings["threads"]
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        options.use_winograd_convolution = self.settings["winograd"]
        options.use_packing_layout = self.settings["packing"]
        if self.net.load_param(str(self.param)) or self.net.load_model(str(self.bin)):
            raise RuntimeError("ncnn cannot load its own model: a layer that it lacks")
        self.mats = [self.ncnn.Mat(np.ascontiguousarray(v[0] if v.ndim > 1 else v)) for v in self.feeds.values()]

    def run(self):
        extractor = self.net.create_extractor()
        for name, mat in zip(self.net.input_names(), self.mats):
            extractor.input(name, mat)
        self.values = []
        for name in self.net.output_names():
            status, mat = extractor.extract(name)
            if status:
                raise RuntimeError(f"ncnn extract {name}: {status}")
            self.values.append(mat)

    def settle(self):
        pass

    def outputs(self):
        return {str(i): np.array(v) for i, v in enumerate(self.values)}


PEERS = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "iree": Iree, "ncnn": Ncnn}


def answer(**fields):
    print(json.dumps(fields), flush=True)


def serve(peer):
    empty = resident()
    started = time.perf_counter()
    peer.load()
    loaded = time.perf_counter()
    peer.run()
    first = time.perf_counter()
    peer.settle()
    answer(version=peer.version, load_ms=(loaded - started) * 1e3, first_run_ms=(first - loaded) * 1e3,
           library_bytes=peer.library_bytes, model_bytes=peer.model_bytes)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "run":
            peer.run()
            times, end = [], time.perf_counter() + float(argument)
            while len(times) < 5 or time.perf_counter() < end:
                start = time.perf_counter()
                peer.run()
                times.append((time.perf_counter() - start) * 1e3)
            answer(median_ms=float(np.median(times)), runs=len(times))
        elif command == "outputs":
            np.savez(argument, **peer.outputs())
            answer(written=argument)
        elif command == "memory":
            answer(resident_bytes=resident() - empty, peak_bytes=resident("VmHWM") - empty, empty_bytes=empty)


def main():
    mode, name, model, feeds_path, folder, settings = sys.argv[1:]
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with np.load(feeds_path) as file:
        feeds = {key: file[key] for key in file.files}
    peer = PEERS[name](model, feeds, folder, json.loads(settings))
    if mode == "convert":
        if hasattr(peer, "convert"):
            peer.convert(model, folder)
    else:
        serve(peer)


if __name__ == "__main__":
    main()
