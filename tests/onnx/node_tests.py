"""The node tests of the ONNX 1.22 backend suite, each compiled by aotc and run by the ingot tool.

    .cache/venv/bin/python tests/onnx/node_tests.py [--build=DIR] [--only='test_add*'] [--full | --share=N]

A test whose operators are all in `aotc --list-operators`, at the opset it uses, must pass. Any other must be refused:
exit status 1 and a message that names the operator; a crash or any other status is a failure. A test of a type that
archives do not hold yet (FOREIGN_TYPES, sequences, optionals) may be refused too, and is counted with that reason.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

DATA = pathlib.Path(onnx.backend.test.__file__).parent / "data" / "node"
RELATIVE, ABSOLUTE = 1e-3, 1e-7  # the suite's own

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
        table["" if domain in ("ai.onnx", "-") else domain, operator] = (int(first), int(last or first))
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


# Element types that no archive holds yet, and values that are not tensors.
FOREIGN_TYPES = {"STRING", "COMPLEX64", "COMPLEX128", "UINT4", "INT4", "UINT2", "INT2", "FLOAT4E2M1", "FLOAT8E4M3FN",
                 "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"}


def foreign_types(model):
    """Names of such types that a model's inputs, outputs, weights and casts touch."""
    found = set()

    def element(number):
        name = onnx.TensorProto.DataType.Name(number)
        if name in FOREIGN_TYPES:
            found.add(name.lower())

    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        kind = value.type.WhichOneof("value")
        if kind == "tensor_type":
            element(value.type.tensor_type.elem_type)
        elif kind:
            found.add(kind.removesuffix("_type"))
    for weight in model.graph.initializer:
        element(weight.data_type)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                element(attribute.t.data_type)
            elif node.op_type == "Cast" and attribute.name == "to":
                element(attribute.i)
    return sorted(found)


def load_value(path, value_info):
    """A tensor of a test's data set; None where it is a sequence or an optional, which arrays cannot hold."""
    if value_info.type.WhichOneof("value") != "tensor_type":
        return None
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def compare(actual, expected):
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


def one_test(tools, table, folder, scratch):
    model_path = folder / "model.onnx"
    model = onnx.load(model_path)
    missing, types = lacking(model, table), foreign_types(model)
    archive = scratch / "model.ingot"
    status, out, err = tools.compile(model_path, archive, timeout=60)
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
    initializers = {w.name for w in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in initializers]
    for data_set in sorted(folder.glob("test_data_set_*")):
        arrays = {}
        for index, value in enumerate(inputs):
            path = data_set / f"input_{index}.pb"
            if path.exists():
                arrays[value.name] = load_value(path, value)
        names = [v.name for v in model.graph.output]
        if any(a is None for a in arrays.values()):
            return harness.fail("compiled, but this runner cannot pass sequences or optionals")
        outputs, status, err = tools.run(archive, arrays, names, scratch)
        if outputs is None:
            return harness.fail(f"ingot run: exit status {status}: {err}")
        random = any(n.op_type in RANDOM_OPERATORS for n in model.graph.node)
        for index, value in enumerate(model.graph.output):
            expected = load_value(data_set / f"output_{index}.pb", value)
            if expected is None:
                return harness.fail("compiled, but this runner cannot compare sequences or optionals")
            actual = outputs[value.name]
            if random:
                wrong = None if actual.shape == expected.shape and actual.dtype == expected.dtype else "shape or type"
            else:
                wrong = compare(actual, expected)
            if wrong:
                return harness.fail(f"{value.name}: {wrong}")
    return harness.ok()


def prepare(tools):
    table = supported_operators(tools)
    folders = sorted(p for p in DATA.iterdir() if (p / "model.onnx").exists())
    if len(folders) < 1700:
        raise SystemExit(f"{DATA}: {len(folders)} tests, expected 1,765: run tools/setup.sh test")
    tests = {p.name: (lambda scratch, p=p: one_test(tools, table, p, scratch)) for p in folders}
    return tests, harness.hash_of(pathlib.Path(__file__), onnx.__version__, sorted(table.items()), sorted(tests))


if __name__ == "__main__":
    harness.run_suite("onnx-node", prepare, lambda: {"onnx": onnx.__version__, "numpy": np.__version__})
