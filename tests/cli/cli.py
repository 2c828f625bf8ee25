"""The command lines as a user meets them: exit statuses, error texts, determinism, no half-written file.

    .cache/venv/bin/python tests/cli/cli.py [--build=DIR] [--only=PATTERN]
"""
import json
import os
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FACE = harness.MODELS / "face_detection_back_256x256_barracuda.onnx"


def model(nodes, inputs, outputs, weights=(), opset=13, domains=()):
    value = lambda v: helper.make_tensor_value_info(v[0], v[1], v[2])
    graph = helper.make_graph(nodes, "g", [value(v) for v in inputs], [value(v) for v in outputs], list(weights))
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)


def add_model():
    return model([helper.make_node("Add", ["a", "b"], ["y"], name="sum")],
                 [("a", TensorProto.FLOAT, [2, 3]), ("b", TensorProto.FLOAT, [3])], [("y", TensorProto.FLOAT, [2, 3])])


def expect(got, status, *texts, absent=None):
    """Checks an exit status and that each text stands in the output; `absent` must not exist afterwards."""
    code, out, err = got
    if code != status:
        return harness.fail(f"exit status {code}, expected {status}: {err or out}")
    for text in texts:
        if text.lower() not in (out + err).lower():
            return harness.fail(f"the message does not say '{text}': {err or out}")
    if absent is not None and absent.exists():
        return harness.fail(f"{absent.name} was left behind")
    if absent is not None:
        left = [p.name for p in absent.parent.iterdir() if p.name.startswith(absent.name)]
        if left:
            return harness.fail(f"left behind: {left}")
    return harness.ok()


class Cases:
    def __init__(self, tools):
        self.tools = tools

    def save(self, scratch, m, name="model.onnx"):
        path = scratch / name
        path.write_bytes(m.SerializeToString())
        return path

    def refused(self, scratch, m, *texts, flags=()):
        out = scratch / "out.ingot"
        return expect(self.tools.compile(self.save(scratch, m), out, *flags), 1, *texts, absent=out)

    # ---- aotc: models that cannot be compiled
    def test_unknown_operators_all_listed(self, scratch):
        nodes = [helper.make_node("Frobnicate", ["a"], ["t"], name="first_bad"),
                 helper.make_node("Add", ["t", "t"], ["u"], name="fine"),
                 helper.make_node("Defenestrate", ["u"], ["y"], name="second_bad")]
        m = model(nodes, [("a", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])])
        return self.refused(scratch, m, "Frobnicate", "first_bad", "Defenestrate", "second_bad")

    def test_check_lists_every_node_per_target(self, scratch):
        nodes = [helper.make_node("Frobnicate", ["a"], ["t"], name="first_bad"),
                 helper.make_node("Add", ["t", "t"], ["u"], name="fine"),
                 helper.make_node("Conv", ["a", "a"], ["v"], name="misused"),
                 helper.make_node("Defenestrate", ["u", "v"], ["y"], name="second_bad")]
        m = model(nodes, [("a", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])])
        flags = ["--check", "--target=llvm-cpu", "--target=llvm-cpu:host", "--progress=off"]
        status, out, err = self.tools.call([self.tools.aotc, self.save(scratch, m), *flags])
        bad = expect((status, out, err), 1, "first_bad", "misused", "second_bad", "hint:", "llvm-cpu: 3 problems",
                     "llvm-cpu:host: 3 problems")
        if bad.status != "ok" or "'fine'" in err:
            return bad if bad.status != "ok" else harness.fail(f"a supported node is reported: {err}")
        good = model([helper.make_node("Relu", ["a"], ["y"])], [("a", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])])
        status, out, err = self.tools.call([self.tools.aotc, self.save(scratch, good), *flags])
        if list(scratch.glob("*.ingot")):
            return harness.fail("--check wrote an archive")
        return expect((status, out + err, ""), 0) if "llvm-cpu:host: every node is supported" in out else harness.fail(out + err)

    def test_check_tells_what_one_target_lacks(self, scratch):
        """64-bit floats: fine for the CPU, a device feature of Vulkan's, impossible in WGSL."""
        m = model([helper.make_node("Exp", ["a"], ["y"], name="wide")], [("a", TensorProto.DOUBLE, [2])], [("y", TensorProto.DOUBLE, [2])])
        flags = ["--check", "--target=llvm-cpu", "--target=vulkan", "--target=webgpu", "--progress=off"]
        status, out, err = self.tools.call([self.tools.aotc, self.save(scratch, m), *flags])
        bad = expect((status, out, err), 1, "'wide' (ai.onnx.Exp) (f64[2], f64[2])", "hint: ", "webgpu: 1 problem")
        if bad.status != "ok":
            return bad
        return harness.ok() if "llvm-cpu: every node" in out and "vulkan: every node" in out else harness.fail(out + err)

    def test_precision_that_no_target_has(self, scratch):
        m = model([helper.make_node("Relu", ["a"], ["y"])], [("a", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])])
        call = [self.tools.aotc, self.save(scratch, m), "-o", scratch / "out.ingot"]
        for flags, *words in ((["--target=vulkan", "--precision=bf16"], "precision bf16", "not available yet"),
                              (["--target=webgpu", "--precision=bf16"], "precision bf16", "not available yet for webgpu"),
                              (["--target=vulkan,precision=f8"], "precision f8 is unknown"),
                              (["--target=vulkan,precison=f16"], "unknown option 'precison=f16'"),
                              (["--target=llvm-cpu:host,precision=f16"], "precision is for GPU targets")):
            bad = expect(self.tools.call(call + flags), 2, *words)
            if bad.status != "ok":
                return bad
        return harness.fail("an archive was written") if (scratch / "out.ingot").exists() else bad

    def test_details_of_cuda_and_rocm(self, scratch):
        m = model([helper.make_node("Relu", ["a"], ["y"])], [("a", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])])
        call = [self.tools.aotc, self.save(scratch, m), "-o", scratch / "out.ingot", "--progress=off"]
        for flags, status, *words in ((["--target=cuda:sm_70"], 2, "sm_80", "sm_90a"), (["--target=rocm"], 2, "rocm:gfx942", "gfx1201"),
                                      (["--target=hip:gfx906"], 2, "gfx90a"), (["--target=vulkan", "--ptxas=ptxas"], 2, "--ptxas goes with --target=cuda"),
                                      (["--target=cuda", "--ptxas=/no/ptxas", "--check"], 0), (["--target=cuda", "--ptxas=/no/ptxas"], 1, "/no/ptxas", "cannot be run"),
                                      (["--target=cuda", "--precision=bf16"], 2, "not available yet for cuda"),
                                      (["--target=cuda:sm_90,precision=f16", "--target=cuda", "--target=rocm:gfx90a"], 0)):
            bad = expect(self.tools.call(call + flags), status, *words)
            if bad.status != "ok":
                return bad
        bad = expect(self.tools.call([self.tools.ingot, "inspect", scratch / "out.ingot"]), 0, "cuda", "sm_90", "rocm", "gfx90a")
        if bad.status != "ok":
            return bad
        bad = expect(self.tools.call(call + ["--target=cuda:sm_90", "--emit=ptx"]), 0)
        text = (scratch / "out.ingot").read_text()
        for word in (".target sm_90", ".visible .entry relu", "griddepcontrol.wait"):
            if word not in text:
                return harness.fail(f"no {word}: {text[:300]}")
        return bad

    def test_precision_of_one_target_and_of_all(self, scratch):
        """f16 halves the weights; a target's own precision comes before --precision; CPUs keep f32."""
        weights = numpy_helper.from_array(np.random.default_rng(1).standard_normal((512, 512)).astype(np.float32), "w")
        m = model([helper.make_node("MatMul", ["a", "w"], ["y"])], [("a", TensorProto.FLOAT, [1, 512])],
                  [("y", TensorProto.FLOAT, [1, 512])])
        m.graph.initializer.append(weights)
        path, archive = self.save(scratch, m), scratch / "out.ingot"
        for flags, least, most in ((["--target=vulkan"], 1000, 1100), (["--target=vulkan", "--precision=f16"], 500, 600),
                                   (["--target=vulkan:1.1,precision=f16"], 500, 600),
                                   (["--target=vulkan,precision=f32", "--precision=f16"], 1000, 1100),
                                   (["--target=vmvx", "--precision=f16"], 1000, 1100)):
            bad = expect(self.tools.compile(path, archive, *flags), 0)
            if bad.status != "ok":
                return bad
            kilobytes = archive.stat().st_size / 1024
            if not least <= kilobytes <= most:
                return harness.fail(f"{' '.join(flags)}: {kilobytes:.0f} KiB, expected {least} to {most}")
        return harness.ok()

    def test_foreign_domain(self, scratch):
        m = model([helper.make_node("Fancy", ["a"], ["y"], name="foreign", domain="com.example")],
                  [("a", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])], domains=["com.example"])
        return self.refused(scratch, m, "com.example", "Fancy", "foreign")

    def test_unused_foreign_domain_is_fine(self, scratch):
        m = model([helper.make_node("Relu", ["a"], ["y"])], [("a", TensorProto.FLOAT, [2])],
                  [("y", TensorProto.FLOAT, [2])], domains=["com.example"])
        return expect(self.tools.compile(self.save(scratch, m), scratch / "out.ingot"), 0)

    def test_impossible_shapes(self, scratch):
        m = model([helper.make_node("MatMul", ["a", "b"], ["y"], name="product")],
                  [("a", TensorProto.FLOAT, [2, 3]), ("b", TensorProto.FLOAT, [4, 5])], [("y", TensorProto.FLOAT, [2, 5])])
        return self.refused(scratch, m, "product", "MatMul", "3", "4")

    def test_impossible_broadcast(self, scratch):
        m = model([helper.make_node("Add", ["a", "b"], ["y"], name="sum")],
                  [("a", TensorProto.FLOAT, [2, 3]), ("b", TensorProto.FLOAT, [4])], [("y", TensorProto.FLOAT, [2, 3])])
        return self.refused(scratch, m, "sum", "Add")

    def test_missing_input(self, scratch):
        m = model([helper.make_node("Add", ["a", "nowhere"], ["y"], name="sum")], [("a", TensorProto.FLOAT, [2])],
                  [("y", TensorProto.FLOAT, [2])])
        return self.refused(scratch, m, "nowhere")

    def test_types_that_differ(self, scratch):
        m = model([helper.make_node("Add", ["a", "b"], ["y"], name="sum")],
                  [("a", TensorProto.FLOAT, [2]), ("b", TensorProto.INT64, [2])], [("y", TensorProto.FLOAT, [2])])
        return self.refused(scratch, m, "sum", "Add")

    def test_opset_of_the_future(self, scratch):
        m = model([helper.make_node("Relu", ["a"], ["y"], name="r")], [("a", TensorProto.FLOAT, [2])],
                  [("y", TensorProto.FLOAT, [2])], opset=999)
        return self.refused(scratch, m, "999")

    def test_not_a_model(self, scratch):
        path, out = scratch / "model.onnx", scratch / "out.ingot"
        path.write_bytes(b"this is not a protobuf \xff\xff\xff\xff")
        return expect(self.tools.compile(path, out), 1, "model.onnx", absent=out)

    def test_empty_file(self, scratch):
        path, out = scratch / "model.onnx", scratch / "out.ingot"
        path.write_bytes(b"")
        return expect(self.tools.compile(path, out), 1, "model.onnx", absent=out)

    def test_truncated_model(self, scratch):
        path, out = scratch / "model.onnx", scratch / "out.ingot"
        path.write_bytes(FACE.read_bytes()[:100_000])
        return expect(self.tools.compile(path, out), 1, "model.onnx", absent=out)

    def test_mutated_models(self, scratch):
        """200 seeded mutations of a small model: compiled or refused, never a crash, a hang or status 3."""
        data = add_model().SerializeToString()
        rng = random.Random(5)
        for number in range(200):
            mutated = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            path, out = scratch / "model.onnx", scratch / "out.ingot"
            path.write_bytes(mutated)
            status, _, err = self.tools.compile(path, out, "--target=llvm-cpu:host", timeout=20)
            if status not in (0, 1):
                return harness.fail(f"mutation {number}: exit status {status}: {err}")
        return harness.ok()

    def test_missing_model(self, scratch):
        return expect(self.tools.compile(scratch / "none.onnx", scratch / "out.ingot"), 1, "none.onnx")

    def external(self, scratch, location):
        tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "16")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        return model([helper.make_node("Add", ["a", "w"], ["y"], name="sum")], [("a", TensorProto.FLOAT, [4])],
                     [("y", TensorProto.FLOAT, [4])], [tensor])

    def test_external_data(self, scratch):
        np.arange(4, dtype=np.float32).tofile(scratch / "weights.bin")
        path, archive = self.save(scratch, self.external(scratch, "weights.bin")), scratch / "out.ingot"
        done = expect(self.tools.compile(path, archive), 0)
        if done.status != "ok":
            return done
        outputs, status, err = self.tools.run(archive, {"a": np.ones(4, np.float32)}, ["y"], scratch)
        if outputs is None:
            return harness.fail(err)
        return harness.ok() if outputs["y"].tolist() == [1, 2, 3, 4] else harness.fail(str(outputs["y"]))

    def test_external_data_absolute(self, scratch):
        np.ones(4, np.float32).tofile(scratch / "weights.bin")
        return self.refused(scratch, self.external(scratch, str(scratch / "weights.bin")), "weights.bin", "absolute")

    def test_external_data_parent(self, scratch):
        folder = scratch / "model"
        folder.mkdir()
        np.ones(4, np.float32).tofile(scratch / "weights.bin")
        return self.refused(folder, self.external(folder, "../weights.bin"), "..")

    def test_external_data_link(self, scratch):
        folder = scratch / "model"
        folder.mkdir()
        np.ones(4, np.float32).tofile(scratch / "weights.bin")
        os.symlink("../weights.bin", folder / "link.bin")
        return self.refused(folder, self.external(folder, "link.bin"), "link.bin")

    def test_external_data_short(self, scratch):
        np.ones(2, np.float32).tofile(scratch / "weights.bin")
        return self.refused(scratch, self.external(scratch, "weights.bin"), "weights.bin")

    # ---- aotc: usage and files
    def test_wrong_flag(self, scratch):
        return expect(self.tools.call([self.tools.aotc, "--no-such-flag"]), 2)

    def test_no_model_named(self, scratch):
        return expect(self.tools.call([self.tools.aotc]), 2)

    def test_unknown_target(self, scratch):
        out = scratch / "out.ingot"
        return expect(self.tools.compile(self.save(scratch, add_model()), out, "--target=abacus"), 2, "abacus",
                      absent=out)

    def test_form_that_a_target_lacks(self, scratch):
        for form in ("llvm", "asm"):
            wrong = self.refused(scratch, add_model(), "vmvx", "no LLVM or assembly form", "hint",
                                 flags=("--target=vmvx", f"--emit={form}"))
            if wrong.status != "ok":
                return wrong
        return wrong

    def test_unwritable_output(self, scratch):
        out = scratch / "no" / "such" / "folder" / "out.ingot"
        return expect(self.tools.compile(self.save(scratch, add_model()), out), 1, "out.ingot")

    def test_output_is_a_folder(self, scratch):
        out = scratch / "out.ingot"
        out.mkdir()
        return expect(self.tools.compile(self.save(scratch, add_model()), out), 1, "out.ingot")

    def test_list_targets(self, scratch):
        return expect(self.tools.call([self.tools.aotc, "--list-targets"]), 0, "llvm-cpu", "vulkan-spirv", "cuda")

    def test_bad_input_shape(self, scratch):
        out = scratch / "out.ingot"
        got = self.tools.compile(self.save(scratch, add_model()), out, "--input-shape=nobody=1x2")
        return expect(got, 2 if got[0] == 2 else 1, "nobody", absent=out)

    # ---- determinism
    def same_bytes(self, scratch, path):
        blobs = []
        for number, jobs in enumerate((1, 4)):
            folder = scratch / f"somewhere-{'x' * number * 20}"
            folder.mkdir()
            copy = folder / path.name
            copy.write_bytes(path.read_bytes())
            status, _, err = self.tools.call([self.tools.aotc, copy.name, "-o", "out.ingot", f"--jobs={jobs}",
                                              "--progress=off"], 300, cwd=folder)
            if status != 0:
                return harness.fail(f"exit status {status}: {err}")
            blobs.append((folder / "out.ingot").read_bytes())
        if blobs[0] != blobs[1]:
            at = next((i for i, (a, b) in enumerate(zip(*blobs)) if a != b), min(map(len, blobs)))
            return harness.fail(f"{len(blobs[0])} and {len(blobs[1])} bytes, the first difference at {at}")
        return harness.ok(f"{len(blobs[0])} bytes")

    def test_deterministic_small(self, scratch):
        return self.same_bytes(scratch, self.save(scratch, add_model(), "small.onnx"))

    def test_deterministic_face(self, scratch):
        return self.same_bytes(scratch, FACE)

    # ---- the ingot tool
    def compiled(self, scratch):
        archive = scratch / "out.ingot"
        status, _, err = self.tools.compile(self.save(scratch, add_model()), archive, "--target=llvm-cpu:host")
        if status != 0:
            raise RuntimeError(f"aotc: exit status {status}: {err}")
        return archive

    def test_run_prints(self, scratch):
        archive = self.compiled(scratch)
        return expect(self.tools.call([self.tools.ingot, "run", archive, "--input=a=2x3xf32=1,2,3,4,5,6",
                                       "--input=b=3xf32=0.5", "--output=y=-"]), 0, "1.5", "6.5")

    def test_bench_on_device(self, scratch):
        archive = self.compiled(scratch)
        bad = expect(self.tools.call([self.tools.ingot, "bench", archive, "--on-device", "--runs=3", "--json"]), 0, '"device_tensor_bytes": 60')
        if bad.status != "ok":
            return bad
        words = self.save(scratch, model([helper.make_node("Identity", ["s"], ["t"])], [("s", TensorProto.STRING, [2])], [("t", TensorProto.STRING, [2])]))
        status, _, err = self.tools.compile(words, archive)
        if status != 0:
            raise RuntimeError(f"aotc: exit status {status}: {err}")
        given = scratch / "s.json"
        given.write_text('["a", "b"]')
        return expect(self.tools.call([self.tools.ingot, "bench", archive, "--on-device", f"--input=s=@{given}"]), 1, "--on-device", "strings", "leave the flag out")

    def test_run_wrong_shape(self, scratch):
        archive = self.compiled(scratch)
        return expect(self.tools.call([self.tools.ingot, "run", archive, "--input=a=2x4xf32=1",
                                       "--input=b=3xf32=0.5", "--output=y=-"]), 1, "input 'a'", "dim 1", "4", "3")

    def test_run_wrong_type(self, scratch):
        archive = self.compiled(scratch)
        return expect(self.tools.call([self.tools.ingot, "run", archive, "--input=a=2x3xi32=1",
                                       "--input=b=3xf32=0.5", "--output=y=-"]), 1, "i32", "f32")

    def test_run_missing_archive(self, scratch):
        return expect(self.tools.call([self.tools.ingot, "run", scratch / "none.ingot"]), 1, "none.ingot")

    def test_tool_wrong_usage(self, scratch):
        return expect(self.tools.call([self.tools.ingot, "no-such-command"]), 2)

    def test_inspect(self, scratch):
        return expect(self.tools.call([self.tools.ingot, "inspect", self.compiled(scratch)]), 0, "main", "llvm-cpu")

    def test_targets_share_bytes(self, scratch):
        """An archive for two targets has each constant once, and says what each target costs."""
        rng = np.random.default_rng(3)
        table = numpy_helper.from_array(rng.random((300, 400), np.float32), "table")
        weight = numpy_helper.from_array(rng.random((400, 40), np.float32), "weight")
        m = model([helper.make_node("Add", ["x", "table"], ["a"]), helper.make_node("MatMul", ["a", "weight"], ["y"])],
                  [("x", TensorProto.FLOAT, [300, 400])], [("y", TensorProto.FLOAT, [300, 40])], [table, weight])
        path = self.save(scratch, m)
        seen = {}
        for name, targets in (("cpu", ["llvm-cpu:host"]), ("gpu", ["vulkan"]), ("both", ["llvm-cpu:host", "vulkan"]), ("twice", ["vulkan", "vulkan"])):
            archive = scratch / f"{name}.ingot"
            status, _, err = self.tools.compile(path, archive, *[f"--target={t}" for t in targets])
            if status != 0:
                return harness.fail(f"aotc: exit status {status}: {err}")
            status, out, err = self.tools.call([self.tools.ingot, "inspect", "--json", archive])
            if status != 0:
                return harness.fail(err)
            seen[name] = json.loads(out)
        text = self.tools.call([self.tools.ingot, "inspect", scratch / "both.ingot"])[1]
        cpu, gpu, both = (seen[n]["variants"] for n in ("cpu", "gpu", "both"))
        stored = lambda n: sum(s["bytes"] for s in seen[n]["segments"] if s["kind"] == "weights")
        problems = []
        for alone, together in ((cpu[0], both[0]), (gpu[0], both[1])):
            for key in ("code_bytes", "constant_bytes"):
                if alone[key] != together[key] or alone[key] == 0:
                    problems.append(f"{key} of {alone['target']}: {alone[key]} alone, {together[key]} together")
        shared = both[1]["constant_bytes_of_earlier_variants"]
        if shared < 300 * 400 * 4:
            problems.append(f"the table is not shared: {shared} bytes are")
        if stored("both") > stored("cpu") + stored("gpu") - shared + 128: # the last: each constant starts at a multiple of 64
            problems.append(f"weights: {stored('both')} for both, {stored('cpu')} and {stored('gpu')} alone, {shared} shared")
        if cpu[0]["constant_bytes_of_earlier_variants"] or both[0]["constant_bytes_of_earlier_variants"]:
            problems.append("the first variant shares with none before it")
        if f"{both[1]['code_bytes']} of code, {both[1]['constant_bytes']} of constants, of which {shared}" not in text:
            problems.append(text)
        code = [s for s in seen["twice"]["segments"] if s["kind"] == "code"]
        if len(code) != 1 or stored("twice") != stored("gpu"): # the same target twice: equal segments are one
            problems.append(f"two equal targets: {len(code)} code segments, {stored('twice')} bytes of weights")
        return harness.fail("; ".join(problems)) if problems else harness.ok(f"{stored('both')} bytes of weights, {shared} shared")

    def test_verify(self, scratch):
        return expect(self.tools.call([self.tools.ingot, "verify", "--hash", self.compiled(scratch)]), 0)

    def test_explain(self, scratch):
        return expect(self.tools.call([self.tools.ingot, "explain", self.compiled(scratch)]), 0, "local-sync")

    def test_lists(self, scratch):
        for command in ("list-drivers", "list-devices", "dump-devices"):
            done = expect(self.tools.call([self.tools.ingot, command]), 0, "local-sync")
            if done.status != "ok":
                return done
        return harness.ok()

    def test_driver_without_device(self, scratch):
        """A vendor's library without a device, and none at all: said, with exit status 0."""
        drivers = self.tools.call([self.tools.ingot, "list-drivers"])[1]
        if "hip" not in drivers or "amdgpu" not in drivers:
            return harness.skip("this build lacks the driver hip or amdgpu")
        library = harness.CACHE / "hip/usr/lib/x86_64-linux-gnu"
        cases = [("cuda", {}, "libcuda.so.1"), ("hip", {}, "libamdhip64"), ("amdgpu", {}, "libhsa-runtime64.so.1")]
        if (library / "libamdhip64.so.5").exists() and not pathlib.Path("/dev/kfd").exists():
            there = {"LD_LIBRARY_PATH": str(library), "ASAN_OPTIONS": "detect_leaks=0"}
            cases += [("hip", there, "no GPU that the driver can use"), ("amdgpu", there, "no GPU that the runtime can use")]
        for name, environment, words in cases:
            status, out, err = self.tools.call([self.tools.ingot, "list-devices", name], env={**os.environ, **environment})
            if status != 0 or f"{name}://" not in out and not (f"{name}: unavailable: " in err and words in err):
                return harness.fail(f"{name} {environment}: exit status {status}: {out}{err}")
        return harness.ok(f"{len(cases)} libraries")

    def test_corrupt_archives(self, scratch):
        """100 truncated and bit-flipped archives through the tool: refused with a message, never a crash."""
        data = self.compiled(scratch).read_bytes()
        rng = random.Random(11)
        path = scratch / "bad.ingot"
        for number in range(100):
            if number % 2:
                path.write_bytes(data[:rng.randrange(len(data))])
            else:
                bad = bytearray(data)
                bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
                path.write_bytes(bad)
            status, out, err = self.tools.call([self.tools.ingot, "verify", "--hash", path], 20)
            if status == 0 and path.read_bytes() != data:
                # Alignment bytes between segments mean nothing and are covered by no checksum.
                status, out, err = self.tools.call([self.tools.ingot, "run", path, "--input=a=2x3xf32=1",
                                                    "--input=b=3xf32=0.5", "--output=y=-"], 20)
                if status != 0 or "1.5" not in out:
                    return harness.fail(f"case {number}: verified, then exit status {status}: {err}")
            elif status != 1 or not (err or out).strip():
                return harness.fail(f"case {number}: exit status {status}: {err or out}")
        return harness.ok()


def prepare(tools):
    cases = Cases(tools)
    tests = {name[5:]: getattr(cases, name) for name in dir(cases) if name.startswith("test_")}
    return tests, harness.hash_of(pathlib.Path(__file__), onnx.__version__)


if __name__ == "__main__":
    harness.run_suite("cli", prepare, lambda: {"onnx": onnx.__version__})
