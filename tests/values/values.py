"""Lists, optionals and strings through the compiler, the program format and the tool, compared with Python.

    .cache/venv/bin/python tests/values/values.py [--build=DIR] [--only=PATTERN] [--device=URI]

Named and seeded models: sequences of tensors that grow, shrink and are joined at positions known only while running;
movement of strings; splitting, case and regular expressions beside Python's own; look-ups beside the ONNX reference; image
files in forms that the ONNX suite lacks; and what must fail, with the reason that it gives.
"""
import pathlib
import random
import re
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness
import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper
from onnx.reference import ReferenceEvaluator

F = np.float32
TARGETS = ("llvm-cpu", "vmvx")


def tensor(name, shape, kind=T.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def sequence(name, shape, kind=T.FLOAT):
    return helper.make_tensor_sequence_value_info(name, kind, shape)


def model(nodes, inputs, outputs, initializers=(), opset=20):
    graph = helper.make_graph(nodes, "values", inputs, outputs, initializer=list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 4)], ir_version=8)


def strings(values):
    out = np.empty(np.shape(values), object)
    out[...] = values
    return out


def same(actual, expected):
    if isinstance(expected, list):
        content = actual.content if isinstance(actual, harness.Value) else None
        if not isinstance(content, list) or len(content) != len(expected):
            return f"{content}, expected {len(expected)} elements"
        return next((f"element {i}: {w}" for i, w in enumerate(map(same, content, expected)) if w), None)
    if expected is None:
        return None if isinstance(actual, harness.Value) and actual.content is None else f"{actual}, expected nothing"
    expected = np.asarray(expected)
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{list(actual.shape)}, expected {expected.dtype}{list(expected.shape)}"
    equal = (actual == expected).all() if expected.dtype.kind in "Ob" else np.allclose(actual, expected, rtol=1e-5, atol=1e-6)
    return None if equal else f"{actual.tolist()}, expected {expected.tolist()}"


def sequence_program(seed):
    """A list that is edited at positions given by inputs, and what Python's list becomes."""
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    width = rng.randint(1, 4)
    count = rng.randint(1, 4)
    tensors = [np_rng.standard_normal((rng.randint(0, 3), width)).astype(F) for _ in range(count)]
    feeds = {f"x{i}": t for i, t in enumerate(tensors)}
    inputs = [tensor(f"x{i}", [f"n{i}", width]) for i in range(count)]
    nodes, held, name = [helper.make_node("SequenceConstruct", list(feeds), ["s"])], list(tensors), "s"
    for step in range(rng.randint(3, 9)):
        new, position = f"s{step}", f"p{step}"
        if held and rng.random() < 0.4:
            at = rng.randint(-len(held), len(held) - 1)
            nodes.append(helper.make_node("SequenceErase", [name, position], [new]))
            del held[at]
        else:
            at = rng.randint(-len(held), len(held))
            which = rng.randrange(count)
            nodes.append(helper.make_node("SequenceInsert", [name, f"x{which}", position], [new]))
            held.insert(at if at >= 0 else len(held) + at, tensors[which])
        feeds[position] = np.array(at, np.int64 if rng.random() < 0.5 else np.int32)
        inputs.append(tensor(position, [], T.INT64 if feeds[position].dtype == np.int64 else T.INT32))
        name = new
    held.append(tensors[0])
    nodes += [helper.make_node("SequenceInsert", [name, "x0"], ["last"]), helper.make_node("ConcatFromSequence", ["last"], ["joined"], axis=0),
              helper.make_node("Mul", ["joined", "joined"], ["squares"]), helper.make_node("SequenceLength", ["last"], ["length"]),
              helper.make_node("SequenceAt", ["last", "length_1"], ["end"]), helper.make_node("Sub", ["length", "one"], ["length_1"])]
    nodes[-1], nodes[-2] = nodes[-2], nodes[-1]
    one = helper.make_tensor("one", T.INT64, [], [1])
    made = model(nodes, inputs, [sequence("last", ["n", width]), tensor("squares", ["n", width]), tensor("length", [], T.INT64),
                                 tensor("end", ["n", width])], [one])
    joined = np.concatenate(held)
    return made, feeds, {"last": held, "squares": joined * joined, "length": np.array(len(held)), "end": held[-1]}


def moved_strings():
    x = strings([["a", "bb", ""], ["d", "é", "f"]])
    y = strings([["1", "2", "3"]])
    index = np.array([[1, 0], [1, 1]])
    one = lambda op, names, out, **kw: helper.make_node(op, names, [out], **kw)
    i64 = lambda name, values: helper.make_tensor(name, T.INT64, [len(values)], values)
    nodes = [one("Transpose", ["x"], "t", perm=[1, 0]), one("Concat", ["x", "y"], "c", axis=0), one("Reshape", ["c", "shape"], "r"),
             one("Gather", ["x", "index"], "g", axis=0), one("Slice", ["x", "starts", "ends"], "s"), one("Expand", ["y", "four"], "e"),
             one("Tile", ["y", "twice"], "ti"), one("Where", ["mask", "x", "y"], "w"), one("Identity", ["r"], "id"),
             helper.make_node("Split", ["x"], ["p0", "p1"], axis=1, num_outputs=2), one("Unsqueeze", ["x", "axis"], "u")]
    mask = np.array([[True, False, True], [False, True, False]])
    outputs = {"t": x.T, "c": np.concatenate([x, y]), "id": np.concatenate([x, y]).reshape(9), "g": x[index], "s": x[1:2, 1:3],
               "e": np.broadcast_to(y, (4, 3)), "ti": np.tile(y, (2, 2)), "w": np.where(mask, x, y), "p0": x[:, :2], "p1": x[:, 2:],
               "u": x[None]}
    made = model(nodes, [tensor("x", [2, 3], T.STRING), tensor("y", [1, 3], T.STRING), tensor("index", [2, 2], T.INT64),
                         tensor("mask", [2, 3], T.BOOL)],
                 [tensor(n, list(v.shape), T.STRING) for n, v in outputs.items()],
                 [i64("shape", [-1]), i64("starts", [1, 1]), i64("ends", [2, 3]), i64("four", [4, 3]), i64("twice", [2, 2]), i64("axis", [0])])
    return made, {"x": x, "y": y, "index": index, "mask": mask}, outputs


def constants_and_branches():
    """String constants, If over strings, a Loop that appends to a list of strings."""
    then = helper.make_graph([helper.make_node("Constant", [], ["a"], value_strings=["yes", "ja"])], "then", [], [tensor("a", [2], T.STRING)])
    other = helper.make_graph([helper.make_node("StringConcat", ["x", "x"], ["b"])], "else", [], [tensor("b", [2], T.STRING)])
    body = helper.make_graph([helper.make_node("StringConcat", ["w", "x"], ["w2"]), helper.make_node("SequenceInsert", ["l", "w2"], ["l2"]),
                              helper.make_node("Identity", ["c"], ["c2"])], "body",
                             [tensor("i", [], T.INT64), tensor("c", [], T.BOOL), tensor("w", [2], T.STRING), sequence("l", [2], T.STRING)],
                             [tensor("c2", [], T.BOOL), tensor("w2", [2], T.STRING), sequence("l2", [2], T.STRING)])
    nodes = [helper.make_node("If", ["cond"], ["y"], then_branch=then, else_branch=other),
             helper.make_node("SequenceEmpty", [], ["empty"], dtype=T.STRING),
             helper.make_node("Loop", ["n", "", "y", "empty"], ["last", "list"], body=body)]
    return model(nodes, [tensor("cond", [], T.BOOL), tensor("x", [2], T.STRING), tensor("n", [], T.INT64)],
                 [tensor("y", [2], T.STRING), tensor("last", [2], T.STRING), sequence("list", [2], T.STRING)])


PATTERNS = [r"", r"a", r"abc", r"a*", r"a+b?", r"(a|b)*c", r"a{2}", r"a{2,}", r"a{1,3}b", r"[a-c]+", r"[^a-c]+", r".", r".*", r"\d+", r"\w+", r"\W*",
            r"\s", r"a.c", r"(?:ab)+", r"(?P<n>ab)c", r"^abc$", r"\babc\b", r"a\.c", r"[\w.-]+@[\w.-]+", r"(a|ab)(c|bcd)(d*)", r"((a*)*)*", r"(a?){20}a{20}",
            r"[\d\s]*", r"x{0}", r"\x41b", r"(?i)ABC", r"[]a]+", r"[a\-c]+", r"é+", r"[à-ü]*", r"a|", r"(?s).+", r"a??b*?", r"\Aabc\z".replace("z", "Z"),
            r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)"]
TEXTS = ["", "a", "abc", "aab", "aaab", "aaaa", "ababab", "bbc", "a.c", "a\nc", "123", "x y", "me@x.org", "abcd", "a" * 20, "a" * 41, "é", "éé", "ü", "Ab", "aBc",
         "]a", "a-c", "\n", "someone@gmail.com", "日本"]


def regex_model(pattern):
    return model([helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)], [tensor("x", ["n"], T.STRING)], [tensor("y", ["n"], T.BOOL)])


def words(seed, count=40):
    rng = random.Random(seed)
    alphabet = ["a", "B", "-", " ", "\t", "é", "Ä", "ß", "λ", "Σ", "Ж", "日", "--", "  "]
    return ["".join(rng.choice(alphabet) for _ in range(rng.randint(0, 9))) for _ in range(count)]


def simple_case(text, upper):
    mapped = ((c.upper() if upper else c.lower()) for c in text)
    return "".join(m if len(m) == 1 else c for m, c in zip(mapped, text))


def bmp(width, height, bits, pixels, palette=b""):
    offset = 54 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 0, 0, len(palette) // 4, 0)
    return header + info + palette + pixels


def image_cases():
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)
    rows = [b"".join(bytes(p[::-1]) for p in row) + b"\0" * 3 for row in rgb]
    gray = np.array([[0, 128, 255], [1, 2, 3]], np.uint8)
    spread = np.repeat(gray[..., None], 3, 2)
    bits = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
    black = np.repeat((255 * (1 - bits))[..., None], 3, 2).astype(np.uint8)
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    two = bytes([1, 2, 3, 0, 200, 100, 50, 0])
    coloured = np.where(bits[..., None] == 1, [50, 100, 200], [3, 2, 1]).astype(np.uint8)
    return {
        "bmp24-bottom-up": (bmp(3, 2, 24, rows[1] + rows[0]), rgb), "bmp24-top-down": (bmp(3, -2, 24, rows[0] + rows[1]), rgb),
        "bmp32": (bmp(3, -2, 32, b"".join(bytes(p[::-1]) + b"\0" for row in rgb for p in row)), rgb),
        "bmp8": (bmp(3, -2, 8, b"".join(bytes(r) + b"\0" for r in gray), palette), spread),
        "bmp1": (bmp(3, -2, 1, b"\x40\0\0\0\xc0\0\0\0", two), coloured),
        "ppm": (b"P6\n# a comment\n3 2\n255\n" + rgb.tobytes(), rgb), "ppm-text": (b"P3 3 2 255 " + b" ".join(str(v).encode() for v in rgb.flat), rgb),
        "pgm": (b"P5 3 2 255\n" + gray.tobytes(), spread), "pgm-text": (b"P2 3 2 255 " + b" ".join(str(v).encode() for v in gray.flat), spread),
        "pgm16": (b"P5 3 2 65535\n" + (gray.astype(">u2") * 257).tobytes(), spread),
        "pbm": (b"P4 3 2\n\x40\xc0", black), "pbm-text": (b"P1 3 2\n010\n1 1 0\n", black)}


def decoder_model(pixel_format="RGB"):
    return model([helper.make_node("ImageDecoder", ["x"], ["y"], pixel_format=pixel_format)], [tensor("x", ["n"], T.UINT8)], [tensor("y", ["h", "w", "c"], T.UINT8)])


def lookups():
    """{name: (model, feeds)}: the ONNX reference says what comes out."""
    x = np.array([[1, 5, 3, 1, 2, 7], [2, 2, 3, 1, 5, 5]], np.int64)
    text = np.array([["a", "b", "c", "a"], ["c", "a", "b", "b"]], object)
    def tfidf(mode, x, pool, **kw):
        kind = T.STRING if x.dtype == object else T.INT64
        weights = {} if mode == "TF" else {"weights": [0.5, 2.0, 1.5, 3.0]}
        node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], mode=mode, min_gram_length=1, max_gram_length=2, max_skip_count=1, ngram_counts=[0, 2],
                                ngram_indexes=[2, 0, 1, 3], **weights, **{"pool_strings" if kind == T.STRING else "pool_int64s": pool}, **kw)
        return model([node], [tensor("x", list(x.shape), kind)], [tensor("y", list(x.shape[:-1]) + [4])]), {"x": x}
    cases = {f"tfidf-{mode}-{name}": tfidf(mode, data, pool) for mode in ("TF", "IDF", "TFIDF")
             for name, data, pool in (("rows", x, [1, 2, 5, 3, 1, 2]), ("row", x[0], [1, 5, 5, 1, 1, 2]), ("strings", text, ["a", "b", "a", "b", "c", "b"]))}
    def encode(x, out, **kw):
        return model([helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **kw)],
                     [tensor("x", [len(x)], T.STRING if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype))], [tensor("y", [len(x)], out)]), {"x": x}
    cases["encode-strings"] = encode(strings(["b", "?", "", "a"]), T.STRING, keys_strings=["a", "b", ""], values_strings=["eins", "zwei", "leer"], default_string="andere")
    cases["encode-numbers"] = encode(np.array([3, 1, 9, 1], np.int64), T.STRING, keys_int64s=[1, 3], values_strings=["one", "three"], default_string="many")
    cases["encode-floats"] = encode(strings(["b", "x"]), T.FLOAT, keys_strings=["a", "b"], values_floats=[0.5, -2.0], default_float=7.0)
    return cases


def prepare(tools):
    tests = {}

    def run(scratch, made, feeds, expected, target="llvm-cpu"):
        expected = {n: strings(v) if isinstance(v, np.ndarray) and v.dtype.kind in "US" else v for n, v in expected.items()}
        path, archive = scratch / "m.onnx", scratch / "m.ingot"
        path.write_bytes(made.SerializeToString())
        status, out, err = tools.compile(path, archive, f"--target={target}")
        if status != 0:
            return harness.fail(f"aotc: exit status {status}: {err}")
        values = {n for n, v in expected.items() if isinstance(v, list) or v is None or np.asarray(v).dtype == object}
        given = {n: harness.Value(v) if isinstance(v, list) or v is None else v for n, v in feeds.items()}
        outputs, status, err = tools.run(archive, given, list(expected), scratch, values=values)
        if outputs is None:
            return harness.fail(f"ingot run: exit status {status}: {err}")
        for name, value in expected.items():
            if wrong := same(outputs[name], value):
                return harness.fail(f"{name}: {wrong}")
        return harness.ok()

    def refused(scratch, made, feeds, words):
        path, archive = scratch / "m.onnx", scratch / "m.ingot"
        path.write_bytes(made.SerializeToString())
        status, out, err = tools.compile(path, archive)
        if status == 0:
            outputs, status, err = tools.run(archive, feeds, [o.name for o in made.graph.output], scratch)
        if status != 1 or words not in err:
            return harness.fail(f"exit status {status}: {err}")
        return harness.ok(err)

    for seed in range(24):
        tests[f"sequence-{seed}"] = lambda s, n=seed: run(s, *sequence_program(n), target=TARGETS[n % 2])
    tests["moved-strings"] = lambda s: run(s, *moved_strings())
    for cond in (True, False):
        for n in (0, 1, 3):
            def branches(scratch, cond=cond, n=n):
                x = strings(["p", "ö"])
                y = strings(["yes", "ja"]) if cond else x + x
                held, last = [], y
                for _ in range(n):
                    last = last + x
                    held.append(last)
                return run(scratch, constants_and_branches(), {"cond": np.array(cond), "x": x, "n": np.array(n)}, {"y": y, "last": last, "list": held})
            tests[f"branches-{cond}-{n}"] = branches
    for i, pattern in enumerate(PATTERNS):
        def regex(scratch, pattern=pattern):
            wanted = [re.fullmatch(pattern, t, re.ASCII) is not None for t in TEXTS]
            return run(scratch, regex_model(pattern.replace(r"\Z", r"\z")), {"x": strings(TEXTS)}, {"y": np.array(wanted)})
        tests[f"regex-{i}"] = regex
    for pattern, why in (("(a", "group without an end"), ("a)", "')' without '('"), ("[a", "class without an end"), ("*a", "nothing to repeat"), ("a**", "a repetition of a repetition"),
                         (r"\1", "references"), ("(?=a)", "look-around"), ("a{2,1}", "out of order"), (r"\pL", "not supported"), ("(a{1000}){1000}", "too large"),
                         ("(" * 300 + ")" * 300, "nested more than")):
        tests[f"bad-regex-{why.replace(' ', '-')}"] = lambda s, p=pattern, w=why: refused(s, regex_model(p), {}, w)
    for seed in range(4):
        def normal(scratch, seed=seed):
            upper, sensitive, texts = seed % 2 == 1, seed >= 2, words(seed)
            stop = [simple_case(texts[3], not upper), texts[5]]
            kept = [t for t in texts if (t not in stop if sensitive else simple_case(t, False) not in [simple_case(s, False) for s in stop])]
            node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="UPPER" if upper else "LOWER", is_case_sensitive=int(sensitive), stopwords=stop)
            return run(scratch, model([node], [tensor("x", ["n"], T.STRING)], [tensor("y", ["m"], T.STRING)]), {"x": strings(texts)},
                       {"y": strings([simple_case(t, upper) for t in kept])})
        tests[f"normalize-{seed}"] = normal
        for delimiter, most in (("", -1), ("-", -1), ("--", 2), ("", 1), ("é", 0)):
            def split(scratch, seed=seed, delimiter=delimiter, most=most):
                texts = words(seed + 50)
                parts = [t.split(delimiter or None, most) for t in texts]
                width = max(map(len, parts))
                kw = {} if most < 0 else {"maxsplit": most}
                node = helper.make_node("StringSplit", ["x"], ["y", "n"], delimiter=delimiter, **kw)
                return run(scratch, model([node], [tensor("x", [8, 5], T.STRING)], [tensor("y", [8, 5, "w"], T.STRING), tensor("n", [8, 5], T.INT64)]),
                           {"x": strings(texts).reshape(8, 5)},
                           {"y": strings([p + [""] * (width - len(p)) for p in parts]).reshape(8, 5, width), "n": np.array([len(p) for p in parts]).reshape(8, 5)})
            tests[f"split-{seed}-{delimiter or 'space'}-{most}"] = split
    for name, (made, feeds) in lookups().items():
        tests[name] = lambda s, m=made, f=feeds: run(s, m, f, {"y": ReferenceEvaluator(m).run(None, f)[0]})
    for name, (data, pixels) in image_cases().items():
        tests[f"image-{name}"] = lambda s, d=data, p=pixels: run(s, decoder_model(), {"x": np.frombuffer(d, np.uint8)}, {"y": p})
        tests[f"image-{name}-bgr"] = lambda s, d=data, p=pixels: run(s, decoder_model("BGR"), {"x": np.frombuffer(d, np.uint8)}, {"y": p[..., ::-1]})
        tests[f"image-{name}-truncated"] = lambda s, d=data: refused(s, decoder_model(), {"x": np.frombuffer(d[:len(d) * 2 // 3], np.uint8)}, "the image is no readable")
    tests["image-unknown"] = lambda s: refused(s, decoder_model(), {"x": np.arange(64, dtype=np.uint8)}, "no image of a format that is known")
    at = model([helper.make_node("SequenceConstruct", ["x", "x"], ["s"]), helper.make_node("SequenceAt", ["s", "p"], ["y"])],
               [tensor("x", [2]), tensor("p", [], T.INT64)], [tensor("y", [2])])
    x = np.array([1, 2], F)
    tests["position-out-of-range"] = lambda s: refused(s, at, {"x": x, "p": np.array(2)}, "position 2 of a list of 2")
    tests["position-in-range"] = lambda s: run(s, at, {"x": x, "p": np.array(-2)}, {"y": x})
    add = model([helper.make_node("Add", ["x", "x"], ["y"])], [tensor("x", [2], T.STRING)], [tensor("y", [2], T.STRING)])
    tests["add-strings"] = lambda s: refused(s, add, {}, "input 0 is strings, which Add does not take here")
    relu = model([helper.make_node("Relu", ["x"], ["y"])], [sequence("x", [2])], [tensor("y", [2])])
    tests["relu-sequence"] = lambda s: refused(s, relu, {}, "input 0 is seq(f32), which Relu does not take here")
    optional = helper.make_value_info("o", helper.make_optional_type_proto(helper.make_tensor_type_proto(T.FLOAT, [2])))
    get = model([helper.make_node("OptionalGetElement", ["o"], ["y"])], [optional], [tensor("y", [2])])
    tests["optional-empty"] = lambda s: refused(s, get, {"o": harness.Value(None)}, "nothing")
    tests["optional-full"] = lambda s: run(s, get, {"o": harness.Value(x)}, {"y": x})
    return tests, harness.hash_of(pathlib.Path(__file__))


if __name__ == "__main__":
    harness.run_suite("values", prepare, lambda: {"onnx": onnx.__version__, "numpy": np.__version__})
