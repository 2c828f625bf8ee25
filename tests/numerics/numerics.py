"""`ingot verify-numerics`: models agree with both references; a fault is named where it was planted; nothing stays behind.

    .cache/venv/bin/python tests/numerics/numerics.py [--build=DIR] [--only=PATTERN]

A fault is planted as a wrong compiler would: a program that stands in for aotc runs the real one and then changes one
instruction or one weight of one node in the archive that it wrote (plant.cpp). The first node named must be that one.
"""
import json
import os
import pathlib
import random
import signal
import stat
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
for folder in ("lib", "control"):
    sys.path.insert(0, str(HERE.parent / folder))
import control
import harness
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

FACE = harness.MODELS / "face_detection_back_256x256_barracuda.onnx"
REC = harness.MODELS / "ch_PP-OCRv4_rec_infer.onnx"
F = np.float32
node, value = helper.make_node, control.value


def model(nodes, inputs, outputs, constants=(), opset=17):
    graph = helper.make_graph(nodes, "numerics", inputs, outputs,
                              initializer=[numpy_helper.from_array(np.asarray(a), n) for n, a in constants])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weights(seed, *shape):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(F)


# ---- models: name -> (model, flags)

def convolutions():
    """Channels in multiples of 16, so that native code computes in blocks; a product and a softmax behind them."""
    nodes = [node("Conv", ["x", "w0", "b0"], ["c0"], name="early", kernel_shape=[3, 3], pads=[1] * 4),
             node("Relu", ["c0"], ["r0"], name="relu0"),
             node("Conv", ["r0", "w1"], ["c1"], name="middle", kernel_shape=[3, 3], pads=[1] * 4),
             node("Add", ["c1", "r0"], ["s1"], name="residual"), node("Relu", ["s1"], ["r1"], name="relu1"),
             node("MaxPool", ["r1"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
             node("GlobalAveragePool", ["p"], ["g"], name="average"), node("Flatten", ["g"], ["f"], name="flatten"),
             node("Gemm", ["f", "w2", "b2"], ["l"], name="late"), node("Softmax", ["l"], ["y"], name="softmax")]
    return model(nodes, [value("x", [1, 3, 12, 12])], [value("y", [1, 10]), value("r1", [1, 16, 12, 12])],
                 [("w0", weights(0, 16, 3, 3, 3)), ("b0", weights(1, 16)), ("w1", weights(2, 16, 16, 3, 3)),
                  ("w2", weights(3, 16, 10)), ("b2", weights(4, 10))])


def integers():
    """Integers, bools, outputs of several types, anonymous nodes, shape arithmetic, a tensor without elements."""
    nodes = [node("Greater", ["x", "zero"], ["b"]), node("Not", ["b"], ["n"]), node("Cast", ["x"], ["i"], to=T.INT64),
             node("Where", ["b", "i", "ones"], ["w"]), node("ArgMax", ["x"], ["a"], axis=1), node("Shape", ["x"], ["s"]),
             node("Reshape", ["w", "s"], ["r"]), node("TopK", ["x", "k"], ["t", "at"], axis=1),
             node("Slice", ["x", "three", "three", "one"], ["e"]), node("Concat", ["e", "x"], ["z"], axis=1)]
    return model(nodes, [value("x", [4, 6])], [value("n", [4, 6], T.BOOL), value("r", [4, 6], T.INT64), value("a", [4, 1], T.INT64),
                                               value("at", [4, 2], T.INT64), value("e", [4, 0]), value("z", [4, 6])],
                 [("zero", F(0)), ("ones", np.ones((4, 6), np.int64)), ("k", np.array([2])), ("three", np.array([3])),
                  ("one", np.array([1]))])


def halves():
    nodes = [node("MatMul", ["x", "w"], ["m"], name="product"), node("Tanh", ["m"], ["t"], name="tanh"),
             node("Mul", ["t", "t"], ["y"], name="square")]
    return model(nodes, [value("x", [5, 8], T.FLOAT16)], [value("y", [5, 7], T.FLOAT16)], [("w", weights(0, 8, 7).astype(np.float16))])


def free_dims():
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Sigmoid", ["m"], ["y"])]
    return model(nodes, [value("x", ["batch", 8])], [value("y", ["batch", 7])], [("w", weights(0, 8, 7))])


def chain(seed):
    """A straight line of operators drawn from the seed, each with a tensor of the same shape as its result."""
    rng = random.Random(seed)
    rows, columns = rng.randint(1, 9), rng.randint(2, 40)
    nodes, constants, last = [], [], "x"
    for i in range(rng.randint(4, 14)):
        kind = "MatMul" if i == 1 else rng.choice(["Add", "Mul", "Sub", "Tanh", "Sigmoid", "MatMul", "Max", "Abs", "Softmax", "LayerNormalization"])
        inputs = [last]
        if kind in ("Add", "Mul", "Sub", "Max"):
            constants.append((f"w{i}", weights(seed + i, *rng.choice([(columns,), (rows, 1), (rows, columns)]))))
            inputs.append(f"w{i}")
        elif kind == "MatMul":
            constants.append((f"w{i}", weights(seed + i, columns, columns)))
            inputs.append(f"w{i}")
        elif kind == "LayerNormalization":
            constants.append((f"w{i}", 1 + weights(seed + i, columns)))
            inputs.append(f"w{i}")
        nodes.append(node(kind, inputs, [f"v{i}"], name=f"{kind}/{i}"))
        last = f"v{i}"
    return model(nodes, [value("x", [rows, columns])], [value(last, [rows, columns])], constants)


MODELS = {"convolutions": (convolutions, []), "integers": (integers, []), "halves": (halves, []),
          "free-dims": (free_dims, ["--input-shape=x=3x8"]), "free-dims-by-input": (free_dims, ["--input=x=5x8xf32=random:3"]),
          "if": (control.branch_model, []), "loop": (control.doubling_model, ["--input=n=i64=5", "--input=limit=f32=1000"]),
          "swap": (control.swapping_model, ["--input=n=i64=4"]), "nonzero": (control.nonzero_model, ["--input-shape=x=3x7"])}


def check(got, status, *texts):
    code, out, err = got
    if code != status:
        return harness.fail(f"exit status {code}, expected {status}: {err or out}")
    for text in texts:
        if text not in out + err:
            return harness.fail(f"it does not say '{text}': {err or out}")
    return harness.ok()


class Cases:
    def __init__(self, tools):
        self.tools = tools
        self.plant = tools.build / "tests" / "numerics" / "plant"

    def save(self, scratch, made, name="model.onnx"):
        path = scratch / name
        path.write_bytes(made.SerializeToString())
        return path

    def verify(self, scratch, *args, aotc=None, python=sys.executable, timeout=300):
        """One call, which must leave its temporary folder empty."""
        temporary = scratch / "tmp"
        temporary.mkdir(exist_ok=True)
        got = self.tools.call([self.tools.ingot, "verify-numerics", f"--aotc={aotc or self.tools.aotc}", f"--python={python}", *args],
                              timeout, env=dict(os.environ, TMPDIR=str(temporary)))
        left = list(temporary.iterdir())
        return (f"left behind: {left}", *got[1:]) if left else got

    def program(self, scratch, name, text):
        path = scratch / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def faulty_aotc(self, scratch, where, how):
        """aotc, but the archive with every node's outputs has a fault in node `where`."""
        return self.program(scratch, "faulty-aotc", f'''#!/bin/bash
set -e
"{self.tools.aotc}" "$@"
for ((i = 1; i <= $#; ++i)); do [ "${{!i}}" = -o ] && at=$((i + 1)); done
out=${{!at}}
if [ -f "$out" ]; then "{self.plant}" "$out" "$out" "{where}" {how}; fi
''')

    def agrees(self, scratch, name, reference, target):
        make, flags = MODELS[name]
        got = self.verify(scratch, self.save(scratch, make()), f"--reference={reference}", f"--target={target}", *flags, "--json")
        if got[0] != 0:
            return check(got, 0)
        report = json.loads(got[1])
        shown = [t for t in report["tensors"] if t["verdict"] == "agrees"]
        if not report["agrees"] or report["first"] or len(shown) != len(report["tensors"]) or not shown:
            return harness.fail(got[1])
        return harness.ok(f"{len(shown)} tensors")

    def planted(self, scratch, made, where, how, target, *flags):
        """The first node named is the planted one, and its inputs are said to be right."""
        aotc = self.faulty_aotc(scratch, where, how)
        path = made if isinstance(made, pathlib.Path) else self.save(scratch, made)
        status, out, err = self.verify(scratch, path, f"--target={target}", "--json", *flags, aotc=aotc)
        if status != 1:
            return harness.fail(f"exit status {status}: {err or out}")
        first = json.loads(out)["first"]
        if not first or first["nodes"] != [where]:
            return harness.fail(f"names {first and first['nodes']}, planted in {where}")
        text = self.verify(scratch, path, f"--target={target}", *flags, aotc=aotc)
        wrong = check(text, 1, f"first to disagree: node '{where}' (", "its input '")
        if wrong.status != "ok" or ": DISAGREES" in text[1]:
            return wrong if wrong.status != "ok" else harness.fail(text[1])
        return harness.ok(f"max error {first['max_error']}, {first['ulp']} ULP")

    def shipped(self, scratch, made, where, how, target, *flags):
        """A fault in the archive itself: the nodes agree, the kernel that covers the node is named first."""
        path = made if isinstance(made, pathlib.Path) else self.save(scratch, made)
        archive, broken = scratch / "model.ingot", scratch / "broken.ingot"
        status, out, err = self.tools.compile(path, archive, f"--target={target}", *flags)
        if status != 0:
            return harness.fail(err)
        sound = check(self.verify(scratch, path, archive), 0, "as it is: ", "tensors that its kernels write agree")
        if sound.status != "ok":
            return sound
        status, out, err = self.tools.call([self.plant, archive, broken, where, how])
        if status != 0:
            return harness.fail(err)
        status, out, err = self.verify(scratch, path, broken, "--json")
        if status != 1:
            return harness.fail(f"exit status {status}: {err or out}")
        report = json.loads(out)
        first = report["archive"]["first"]
        if report["first"] or not first or where not in first["nodes"]:
            return harness.fail(f"names {first}, planted in {where}")
        return check(self.verify(scratch, path, broken), 1, "node by node", "all agree", f"kernel '{first['kernel']}' of node",
                     "the fault is in that kernel, or in this file")

    # ---- what goes wrong around it

    def test_missing_python(self, scratch):
        return check(self.verify(scratch, self.save(scratch, halves()), python="/nowhere/python3"), 2, "/nowhere/python3",
                     "onnxruntime", "--reference=interpreter")

    def test_missing_onnxruntime(self, scratch):
        bare = self.program(scratch, "bare-python", f'#!/bin/sh\nexec /usr/bin/python3 -S -E "$@"\n')
        return check(self.verify(scratch, self.save(scratch, halves()), python=bare), 2, "No module named",
                     "-m pip install onnxruntime", "--reference=interpreter")

    def test_missing_aotc(self, scratch):
        return check(self.verify(scratch, self.save(scratch, halves()), aotc="/nowhere/aotc"), 2, "/nowhere/aotc", "install aotc")

    def test_missing_model(self, scratch):
        return check(self.verify(scratch, scratch / "none.onnx"), 2, "none.onnx", "no such file")

    def test_unknown_reference(self, scratch):
        return check(self.verify(scratch, self.save(scratch, halves()), "--reference=oracle"), 2, "oracle")

    def test_model_that_does_not_compile(self, scratch):
        made = model([node("Frobnicate", ["x"], ["y"], name="bad")], [value("x", [2])], [value("y", [2])])
        return check(self.verify(scratch, self.save(scratch, made)), 2, "aotc does not compile the model", "Frobnicate")

    def test_archive_of_another_model(self, scratch):
        archive = scratch / "other.ingot"
        self.tools.compile(self.save(scratch, integers(), "other.onnx"), archive)
        return check(self.verify(scratch, self.save(scratch, halves()), archive), 2, "another model", "other.onnx")

    def test_free_dims_need_a_shape(self, scratch):
        return check(self.verify(scratch, self.save(scratch, free_dims())), 2, "'x'", "say which shape")

    def test_device_that_cannot_run_it(self, scratch):
        return check(self.verify(scratch, self.save(scratch, halves()), "--device=nowhere:0"), 2, "nowhere")

    def test_interrupted(self, scratch):
        """A signal while a program that it started works: that one ends, too, and nothing stays."""
        temporary, mark = scratch / "tmp", scratch / "started"
        temporary.mkdir()
        slow = self.program(scratch, "slow-aotc", f"#!/bin/bash\necho $$ > {mark}\nsleep 300\n")
        path = self.save(scratch, halves())
        for number in (signal.SIGINT, signal.SIGTERM):
            mark.unlink(missing_ok=True)
            process = subprocess.Popen([self.tools.ingot, "verify-numerics", path, f"--aotc={slow}"], start_new_session=True,
                                       env=dict(os.environ, TMPDIR=str(temporary)))
            deadline = time.monotonic() + 60
            while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(number)
            status = process.wait(60)
            left = list(temporary.iterdir())
            try:
                state = pathlib.Path(f"/proc/{mark.read_text().strip()}/stat").read_text().split(") ")[1][0]
            except FileNotFoundError:
                state = "gone"
            if status != -number or left or state not in ("gone", "Z"):
                return harness.fail(f"{number.name}: status {status}, left {left}, the compiler is {state}")
        return harness.ok()

    def test_tolerances(self, scratch):
        """A difference of some ULP agrees as it is, and with --ulp or --rtol only where they allow it."""
        path = self.save(scratch, convolutions())
        report = json.loads(self.verify(scratch, path, "--json")[1])
        worst = max(t["ulp"] or 0 for t in report["tensors"])
        if not worst:
            return harness.fail("no tensor differs by an ULP, so nothing is shown")
        for flags, status in ((["--ulp=%d" % worst], 0), (["--ulp=0"], 1), (["--atol=10"], 0), (["--rtol=1e-12"], 1)):
            wrong = check(self.verify(scratch, path, *flags), status)
            if wrong.status != "ok":
                return harness.fail(f"{flags}: {wrong.reason}")
        return harness.ok(f"worst {worst} ULP")

    def test_table(self, scratch):
        return check(self.verify(scratch, self.save(scratch, convolutions()), "--all"), 0, "'early' (Conv)", "'softmax' (Softmax)",
                     "1x16x12x12xf32", "furthest off is node")

    def test_seed_changes_inputs(self, scratch):
        path, details = self.save(scratch, convolutions()), set()
        for seed in (0, 1, 0):
            details.add(json.dumps(json.loads(self.verify(scratch, path, f"--seed={seed}", "--json")[1])["tensors"]))
        return harness.ok() if len(details) == 2 else harness.fail(f"{len(details)} different reports of seeds 0, 1, 0")

    def test_external_data(self, scratch):
        made = convolutions()
        onnx.save_model(made, scratch / "outside.onnx", save_as_external_data=True, location="outside.data", size_threshold=64)
        if not (scratch / "outside.data").exists():
            return harness.fail("no external data was written")
        return check(self.verify(scratch, scratch / "outside.onnx"), 0, "all agree")


def prepare(tools):
    cases, tests = Cases(tools), {}
    if not cases.plant.exists():
        raise SystemExit(f"{cases.plant} is missing: build it (ninja -C {tools.build} tests/numerics/plant)")
    for name in dir(cases):
        if name.startswith("test_"):
            tests[name[5:].replace("_", "-")] = getattr(cases, name)
    for name in MODELS:
        for reference in ("onnxruntime", "interpreter"):
            for target in ("llvm-cpu", "vmvx"):
                tests[f"{name}-{reference}-{target}"] = lambda s, a=(name, reference, target): cases.agrees(s, *a)
    for where in ("early", "middle", "late"):
        tests[f"planted-{where}-llvm-cpu"] = lambda s, w=where: cases.planted(s, convolutions(), w, "weight", "llvm-cpu")
        tests[f"planted-{where}-interpreter"] = lambda s, w=where: cases.planted(
            s, convolutions(), w, "weight", "llvm-cpu", "--reference=interpreter")
        tests[f"shipped-{where}-llvm-cpu"] = lambda s, w=where: cases.shipped(s, convolutions(), w, "weight", "llvm-cpu")
        tests[f"shipped-{where}-vmvx"] = lambda s, w=where: cases.shipped(s, convolutions(), w, "weight", "vmvx")
    for where in ("residual", "pool", "softmax"):
        tests[f"planted-{where}-vmvx"] = lambda s, w=where: cases.planted(s, convolutions(), w, "opcode", "vmvx")
    seed = int(harness.hash_of(time.strftime("%Y-%m-%d"))[:8], 16)
    for number in range(6):
        def generated(scratch, s=seed + 1000 * number):
            made = chain(s)
            fine = check(cases.verify(scratch, cases.save(scratch, made)), 0)
            if fine.status != "ok":
                return harness.fail(f"seed {s}: {fine.reason}")
            where = random.Random(s).choice([n for n in made.graph.node if n.op_type in ("Add", "Mul", "Sub", "MatMul", "Max")]).name
            kind = where.split("/")[0]
            found = cases.planted(scratch, made, where, "weight" if kind in ("MatMul", "Add", "Sub", "Mul") else "opcode",
                                  "llvm-cpu" if kind in ("MatMul", "Add", "Sub", "Mul") else "vmvx")
            found.reason = f"seed {s}, {where}: {found.reason}"
            return found
        tests[f"generated-{number}"] = generated
    face = [n.name or None for n in onnx.load(FACE).graph.node if n.op_type == "Conv"] if FACE.exists() else []
    if face and all(face):
        for where, name in (("early", face[0]), ("middle", face[len(face) // 2]), ("late", face[-1])):
            tests[f"face-planted-{where}"] = lambda s, n=name: cases.planted(s, FACE, n, "weight", "llvm-cpu")
            tests[f"face-shipped-{where}"] = lambda s, n=name: cases.shipped(s, FACE, n, "weight", "llvm-cpu")
    tests["face-onnxruntime"] = lambda s: check(cases.verify(s, FACE), 0, "all agree")
    tests["rec-onnxruntime"] = lambda s: check(cases.verify(s, REC, "--input-shape=x=1x3x48x64"), 0, "all agree")
    tests["face-interpreter"] = lambda s: check(cases.verify(s, FACE, "--reference=interpreter", timeout=600), 0, "all agree")
    return tests, harness.hash_of(pathlib.Path(__file__))


if __name__ == "__main__":
    harness.run_suite("numerics", prepare, lambda: {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__})
