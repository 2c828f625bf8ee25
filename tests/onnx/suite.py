"""The ONNX 1.22 backend suite, all 1,914 tests, each compiled by aotc for a target and run by the ingot tool.

    .cache/venv/bin/python tests/onnx/suite.py [--target=llvm-cpu] [--build=DIR] [--only='node/test_add*'] [--full | --share=N]

Tests are named by the suite's own folders: node/test_add, pytorch-converted/test_Conv2d, light/bvlc_alexnet. A test whose
operators are all in `aotc --list-operators`, at the opset it uses, must pass. Any other must be refused: exit status 1
and a message that names the operator; a crash or any other status is a failure. A test of values that archives do not
hold (strings, complex numbers, sequences, optionals) may be refused too, and is counted with that reason.

Models that should compile share archives (BATCH of them each), which saves most of the time; where such an archive does
not compile or a test fails in it, the model is compiled alone, so that a result never depends on its neighbours.
"""
import argparse
import pathlib
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

DATA = pathlib.Path(onnx.backend.test.__file__).parent / "data"
EXPECTED_TESTS = {"node": 1765, "simple": 23, "pytorch-converted": 82, "pytorch-operator": 35, "light": 9}
RELATIVE, ABSOLUTE = 1e-3, 1e-7  # the suite's own
BATCH = 24

# Their values are drawn by the implementation; only type and shape can be compared.
RANDOM_OPERATORS = {"Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"}


def supported_operators(tools):
    """{(domain, operator): (first opset, last opset)} as the compiler lists them."""
    status, out, err = tools.call([tools.aotc, "--list-operators"])
    if status != 0:
        raise SystemExit(f"aotc --list-operators: exit status {status}: {err}")
    table = {}
    for row in out.splitlines():
        fields = row.split()
        if len(fields) < 3:
            continue
        domain, operator, opsets = fields[0], fields[1], fields[2]
        first, _, last = opsets.partition("-")
        key = "" if domain in ("ai.onnx", "-") else domain, operator
        known = table.get(key, (10**9, 0))
        table[key] = (min(known[0], int(first)), max(known[1], int(last or first)))
    return table


def operators_of(model):
    """{(domain, operator): opset version} over the graph, its subgraphs and the model's own functions."""
    found = {}
    functions = {(f.domain, f.name): f for f in model.functions}

    def walk(nodes, opsets):
        for node in nodes:
            domain = "" if node.domain == "ai.onnx" else node.domain
            key = (domain, node.op_type)
            if key in functions:
                function = functions[key]
                walk(function.node, {o.domain: o.version for o in function.opset_import} or opsets)
            else:
                found[key] = opsets.get(domain, opsets.get("ai.onnx", 0) if not domain else 0)
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    walk(attribute.g.node, opsets)

    walk(model.graph.node, {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import})
    return found


def lacking(model, table):
    missing = []
    for key, version in operators_of(model).items():
        if key not in table:
            missing.append(".".join(filter(None, key)))
        elif not table[key][0] <= version <= table[key][1]:
            missing.append(f"{'.'.join(filter(None, key))}-{version}")
    return missing


# Element types that no archive holds, and (below) values that are neither tensors nor sequences or optionals of them.
FOREIGN_TYPES = {"COMPLEX64", "COMPLEX128"}


def foreign_types(model):
    """Names of such types that a model's inputs, outputs, weights and casts touch."""
    found = set()

    def element(number):
        name = onnx.TensorProto.DataType.Name(number)
        if name in FOREIGN_TYPES:
            found.add(name.lower())

    def walk(nodes):
        for node in nodes:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    element(attribute.t.data_type)
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    walk(attribute.g.node)
                elif node.op_type == "Cast" and attribute.name == "to":
                    element(attribute.i)

    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        kind = value.type.WhichOneof("value")
        if kind == "tensor_type":
            element(value.type.tensor_type.elem_type)
        elif kind and kind not in ("sequence_type", "optional_type"):
            found.add(kind.removesuffix("_type"))
    for weight in model.graph.initializer:
        element(weight.data_type)
    walk(model.graph.node)
    return sorted(found)


def load_value(path, value_info):
    """A value of a test's data set: an array, harness.Value([arrays]) of a sequence, harness.Value(None, array or list) of
    an optional."""
    kind = value_info.type.WhichOneof("value")
    proto = {"tensor_type": onnx.TensorProto, "sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}[kind]()
    proto.ParseFromString(path.read_bytes())
    if kind == "tensor_type":
        return stored(numpy_helper.to_array(proto))
    content = numpy_helper.to_list(proto) if kind == "sequence_type" else numpy_helper.to_optional(proto)
    if isinstance(content, list):
        return harness.Value([stored(np.asarray(e)) for e in content], stored(np.zeros(0, sequence_dtype(value_info.type))).dtype)
    return harness.Value(None if content is None else stored(np.asarray(content)))


def sequence_dtype(kind):
    """Of the elements of a sequence, or of one in an optional."""
    while kind.WhichOneof("value") != "tensor_type":
        kind = kind.optional_type.elem_type if kind.WhichOneof("value") == "optional_type" else kind.sequence_type.elem_type
    return onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)


def stored(array):
    """Types below a byte and 8-bit floats cross the API as bytes, one an element: docs/narrow-types.md."""
    name = array.dtype.name
    if name in ("int4", "int2"):
        return array.astype(np.int8)
    if name in ("uint4", "uint2"):
        return array.astype(np.uint8)
    if name.startswith(("float8", "float4")):
        return array.view(np.uint8)
    return array


def compare(actual, expected):
    if isinstance(actual, harness.Value) != isinstance(expected, harness.Value):
        return f"{type(actual).__name__}, expected {type(expected).__name__}"
    if isinstance(expected, harness.Value):
        a, e = actual.content, expected.content
        if type(a) is not type(e):
            return f"{type(a).__name__}, expected {type(e).__name__}"
        if e is None:
            return None
        if not isinstance(e, list):
            return compare(a, e)
        if len(a) != len(e):
            return f"{len(a)} elements, expected {len(e)}"
        return next((f"element {i}: {wrong}" for i, wrong in enumerate(map(compare, a, e)) if wrong), None)
    if expected.dtype == object:
        same = actual.dtype == object and actual.shape == expected.shape and (actual == expected).all()
        return None if same else f"strings {actual.tolist()}, expected {expected.tolist()}"
    if actual.dtype.kind == "V" and actual.dtype.itemsize == expected.dtype.itemsize:
        actual = actual.view(expected.dtype)  # .npy has no name for bfloat16
    if actual.shape != expected.shape:
        return f"shape {list(actual.shape)}, expected {list(expected.shape)}"
    if actual.dtype != expected.dtype:
        return f"type {actual.dtype}, expected {expected.dtype}"
    try:
        np.testing.assert_allclose(actual.astype(np.float64) if actual.dtype.kind == "V" else actual,
                                   expected.astype(np.float64) if expected.dtype.kind == "V" else expected,
                                   rtol=RELATIVE, atol=ABSOLUTE)
    except AssertionError as error:
        return str(error)
    return None


class Case:
    """One test of the suite: its model, and its data sets as ({input: array}, {output: array})."""

    def __init__(self, kind, path):
        self.kind, self.path = kind, path
        self.name = f"{kind}/{path.stem.removeprefix('light_') if kind == 'light' else path.name}"
        self.model_path = path if kind == "light" else path / "model.onnx"
        self._model = None
        self.batch = None

    @property
    def model(self):
        if self._model is None:
            self._model = onnx.load(self.model_path)
        return self._model

    def forget(self):
        self._model = None

    def inputs(self):
        initializers = {w.name for w in self.model.graph.initializer}
        return [v for v in self.model.graph.input if v.name not in initializers]

    def data_sets(self):
        if self.kind == "light":  # the suite's own dummy input, and the expected output that the wheel carries
            feeds = {}
            for value in self.inputs():
                shape = [d.dim_value if d.HasField("dim_value") else 1 for d in value.type.tensor_type.shape.dim]
                count = int(np.prod(shape))
                feeds[value.name] = (np.arange(count).reshape(shape) / count).astype(np.float32)
            yield feeds, {v.name: load_value(self.path.with_name(f"{self.path.stem}_output_{i}.pb"), v)
                          for i, v in enumerate(self.model.graph.output)}
            return
        for folder in sorted(self.path.glob("test_data_set_*")):
            feeds = {v.name: load_value(folder / f"input_{i}.pb", v)
                     for i, v in enumerate(self.inputs()) if (folder / f"input_{i}.pb").exists()}
            yield feeds, {v.name: load_value(folder / f"output_{i}.pb", v)
                          for i, v in enumerate(self.model.graph.output)}


class Batch:
    """Models that should all compile, in one archive: function number i of it is member i."""

    def __init__(self, members, folder):
        self.members, self.folder = members, folder
        self.lock, self.tried, self.archive = threading.Lock(), False, None

    def compiled(self, tools, target):
        """The archive, made by whichever member asks first; None where it does not compile as a whole."""
        with self.lock:
            if not self.tried:
                self.tried = True
                path = self.folder / f"batch_{id(self)}.ingot"
                command = [tools.aotc, *(m.model_path for m in self.members), "-o", path, "--progress=off", "--jobs=1",
                           f"--target={target}"]
                for index in range(len(self.members)):
                    command.append(f"--entry=f{index}")
                status, _, _ = tools.call(command, 240)
                self.archive = path if status == 0 else None
            return self.archive


class Suite:
    def __init__(self, target):
        self.target = target
        self.cases, self.table, self.tools = {}, {}, None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ingot-suite-"))

    def prepare(self, tools):
        self.tools, self.table = tools, supported_operators(tools)
        for kind, count in EXPECTED_TESTS.items():
            paths = [p for p in sorted((DATA / kind).iterdir())
                     if (p.suffix == ".onnx" if kind == "light" else (p / "model.onnx").exists())]
            if len(paths) != count:
                raise SystemExit(f"{DATA / kind}: {len(paths)} tests, expected {count}: run tools/setup.sh test")
            for path in paths:
                case = Case(kind, path)
                self.cases[case.name] = case
        tests = {name: (lambda scratch, c=case: self.one_test(c, scratch)) for name, case in self.cases.items()}
        return tests, harness.hash_of(pathlib.Path(__file__), self.target, onnx.__version__, sorted(self.table.items()),
                                      sorted(tests))

    def arrange(self, names, jobs):
        """Makes batches of the chosen tests, and an order in which `jobs` threads work on a batch each."""
        known_to_fail = harness.expected_failures("onnx-suite", f"onnx-suite-{self.target}")

        def should_compile(case):
            good = case.name not in known_to_fail and case.kind != "light" and not lacking(case.model, self.table) and not foreign_types(case.model)
            case.forget()
            return good

        plain = [self.cases[n] for n in names if should_compile(self.cases[n])]
        groups = [plain[i:i + BATCH] for i in range(0, len(plain), BATCH)]
        for group in groups:
            batch = Batch(group, self.folder)
            for case in group:
                case.batch = batch
        slow = [n for n in names if self.cases[n].kind == "light" or n in known_to_fail]  # first, so that none ends late
        order = list(slow)
        for i in range(0, len(groups), jobs):
            rows = groups[i:i + jobs]
            order += [row[k].name for k in range(BATCH) for row in rows if k < len(row)]
        return order + [n for n in names if self.cases[n].batch is None and n not in slow]

    def one_test(self, case, scratch):
        archive = case.batch.compiled(self.tools, self.target) if case.batch else None
        outcome = None
        if archive:
            outcome = self.results(case, archive, scratch, f"--function=f{case.batch.members.index(case)}")
        if outcome is None or outcome.status != "ok":
            outcome = self.alone(case, scratch)
        case.forget()
        return outcome

    def alone(self, case, scratch):
        missing, types = lacking(case.model, self.table), foreign_types(case.model)
        archive = scratch / "model.ingot"
        limit = 60 if case.name in harness.expected_failures("onnx-suite", f"onnx-suite-{self.target}") else 240
        status, out, err = self.tools.compile(case.model_path, archive, "--jobs=1", f"--target={self.target}", timeout=limit)
        if missing:
            if status == 1 and any(name.split(".")[-1].split("-")[0] in err for name in missing):
                return harness.refused(", ".join(missing))
            if status == 1 and any("-" in name and f"opset {name.split('-')[-1]}" in err for name in missing):
                return harness.refused(", ".join(missing))
            if status == 1 and types and ("element type" in err or "not a tensor" in err):
                return harness.refused("type " + ", type ".join(types))
            if status == 1:
                return harness.fail(f"refused, but the message names none of {', '.join(missing)}: {err}")
            if status != 0:
                return harness.fail(f"unsupported {', '.join(missing)}: exit status {status} instead of 1: {err}")
            # It compiles all the same (what was missing folded away): then the result must be right.
        elif status == 1 and types and any(word in err.lower() for word in ("element type", "not a tensor", *types)):
            return harness.refused("type " + ", type ".join(types))
        elif status != 0:
            return harness.fail(f"aotc: exit status {status}: {err}")
        return self.results(case, archive, scratch)

    def results(self, case, archive, scratch, *flags):
        drawn = any(n.op_type in RANDOM_OPERATORS for n in case.model.graph.node)
        for feeds, expected in case.data_sets():
            values = {n for n, v in expected.items() if harness.is_value(v)}
            outputs, status, err = self.tools.run(archive, feeds, list(expected), scratch, *flags, values=values)
            if outputs is None:
                return harness.fail(f"ingot run: exit status {status}: {err}")
            for name, value in expected.items():
                if drawn:
                    same = outputs[name].shape == value.shape and outputs[name].dtype == value.dtype
                    wrong = None if same else "shape or type"
                else:
                    actual = outputs[name]
                    if isinstance(value, harness.Value) and isinstance(actual, np.ndarray):
                        actual = harness.Value(actual)  # of an optional
                    wrong = compare(actual, value)
                if wrong:
                    return harness.fail(f"{name}: {wrong}")
        return harness.ok()

    def by_operator(self, results):
        """For docs/operators.md: how many tests name each operator, how many of them pass, and which types those take."""
        rows = {}
        for name, result in results.items():
            case = self.cases[name]
            types = {onnx.TensorProto.DataType.Name(v.type.tensor_type.elem_type).lower()
                     for v in case.model.graph.input if v.type.WhichOneof("value") == "tensor_type"}
            operators = operators_of(case.model)
            case.forget()
            for domain, operator in operators:
                row = rows.setdefault(f"{domain or 'ai.onnx'} {operator}", {"tests": 0, "pass": 0, "types": set()})
                row["tests"] += 1
                if result["status"] == "ok":
                    row["pass"] += 1
                    if len(operators) == 1:  # else another operator may be the one that takes the type
                        row["types"] |= types
        return {"operators": {k: {**v, "types": sorted(v["types"])} for k, v in sorted(rows.items())}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--target", default="llvm-cpu")
    chosen, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    suite = Suite(chosen.target)
    harness.run_suite(f"onnx-suite-{chosen.target}", suite.prepare,
                      lambda: {"onnx": onnx.__version__, "numpy": np.__version__}, arrange=suite.arrange,
                      record_extra=suite.by_operator, scratch=suite.folder, expected_as=("onnx-suite",))
