"""A strict checker of kernels in the Metal Shading Language, for texts as aotc writes them.

    python3 tests/gpu/msl_check.py FILE.msl...        prints `FILE:LINE: what is wrong`; exit status 1 where something is

It parses the part of MSL that msl/allowed.txt allows; anything else is wrong. The rules are Metal's own: an address space
on every pointer and reference, none to pointers, [[buffer]] numbers that are unique and dense, positions of type uint3,
threadgroup memory only at the head of a kernel and within its limit, kernels that call nothing but the library, no words
of the language as names, no double. What types convert to is left to the compiler of the stand-in library.
"""
import pathlib
import re
import sys

ALLOWED = pathlib.Path(__file__).resolve().parent / "msl/allowed.txt"
TOKEN = re.compile(r"""(?P<space>[ \t\r]+|//[^\n]*)|(?P<newline>\n)|(?P<directive>\#[^\n]*)
  |(?P<number>0[xX][0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?(?:[pP][+-]?\d+)?[a-zA-Z]*|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?[a-zA-Z]*)
  |(?P<word>[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)|(?P<sign>\[\[|\]\]|<<|>>|<=|>=|==|!=|&&|\|\||\+=|[-+*/%&|^~!<>=?:;,.(){}\[\]])""", re.X)
DIRECTIVES = ("#include <metal_stdlib>", "#pragma METAL fp contract(off)")
FOREIGN = ("double", "unsigned", "signed", "auto")
SPACES = ("device", "constant", "threadgroup", "thread")
FLOAT = re.compile(r"0[xX][0-9a-fA-F]+(\.[0-9a-fA-F]*)?[pP][+-]?\d+f|\d+\.\d*([eE][+-]?\d+)?[fh]")
INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|0|[1-9]\d*)(u|l|ul)?")
LEVELS = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", ">", "<=", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))


class Wrong(Exception):
    pass


def read_allowed():
    sections, current = {}, None
    for line in ALLOWED.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        elif line:
            current.append(line)
    pairs = lambda name: {w.split()[0]: int(w.split()[1]) for w in sections[name]}
    scalars = pairs("scalars and their bytes")
    types = dict(scalars)
    for scalar, size in scalars.items():
        types.update({f"{scalar}{n}": size * (4 if n == "3" else int(n)) for n in sections["vectors"]})
    return {
        "types": types, "atomics": pairs("atomics and their bytes"), "limits": pairs("limits"),
        "functions": {w.split("/")[0]: int(w.split("/")[1]) for w in sections["functions"]},
        "constants": set(sections["constants"]), "positions": set(sections["positions"]),
        "reserved": set(" ".join(sections["reserved"]).split()),
    }


class Checker:
    """One module: parse() raises Wrong at the first thing that is not allowed."""

    def __init__(self, text, allowed):
        self.allowed = allowed
        self.tokens, self.at, self.line = [], 0, 1
        position = 0
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match:
                self.fail(f"character {text[position]!r} has no place in MSL")
            kind = match.lastgroup
            if kind == "newline":
                self.line += 1
            elif kind != "space":
                self.tokens.append((kind, match[0], self.line))
            position = match.end()
        self.tokens.append(("end", "the end", self.line))
        self.structs, self.kernels = {}, set()
        self.scopes = []  # name: (kind, atomic); kind: const, local, array, readonly, param

    # ---- tokens

    def fail(self, message):
        raise Wrong(f"{self.line}: {message}")

    @property
    def token(self):
        return self.tokens[self.at][1]

    def next(self):
        kind, text, self.line = self.tokens[self.at]
        self.at += kind != "end"
        return kind, text

    def accept(self, *texts):
        if self.token in texts and self.tokens[self.at][0] != "end":
            return self.next()[1]
        return None

    def expect(self, *texts):
        found = self.accept(*texts)
        if found is None:
            self.line = self.tokens[self.at][2]
            self.fail(f"'{self.token}' where '{' or '.join(texts)}' is expected")
        return found

    def name(self, what):
        kind, text = self.next()
        if kind != "word" or "::" in text:
            self.fail(f"'{text}' as the name of {what}")
        if text in self.allowed["reserved"] or text in self.allowed["types"] or text in self.allowed["atomics"] or text in SPACES:
            self.fail(f"reserved word '{text}' as the name of {what}")
        if "__" in text or re.match(r"_[A-Z]", text):
            self.fail(f"'{text}', a name that is the compiler's, as the name of {what}")
        return text

    def declare(self, name, kind, atomic=False):
        if name in self.scopes[-1] or name in self.kernels:
            self.fail(f"'{name}' is declared twice")
        self.scopes[-1][name] = (kind, atomic)

    def find(self, name):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def type(self, atomics=False):
        kind, text = self.next()
        if text in self.allowed["types"] or (atomics and text in self.allowed["atomics"]):
            return text
        if text in FOREIGN:
            self.fail(f"type '{text}' is not allowed")
        self.fail(f"'{text}' is no type that is allowed here")

    # ---- declarations

    def parse(self):
        seen = []
        while self.tokens[self.at][0] != "end":
            kind = self.tokens[self.at][0]
            if kind == "directive":
                text = self.next()[1].strip()
                if text not in DIRECTIVES:
                    self.fail(f"directive '{text}' is not allowed")
                seen.append(text)
            elif self.accept("using"):
                self.expect("namespace"), self.expect("metal"), self.expect(";")
            elif self.accept("struct"):
                self.struct()
            else:
                self.kernel()
        if not self.kernels:
            self.fail("there is no kernel")
        for directive in DIRECTIVES:
            if seen.count(directive) != 1:
                self.fail(f"'{directive}' is there {seen.count(directive)} times")

    def struct(self):
        name, members = self.name("a struct"), set()
        self.expect("{")
        while not self.accept("}"):
            type = self.type()
            if type.startswith("bool"):
                self.fail("bool in a buffer: its size is the compiler's")
            member = self.name("a member")
            if member in members:
                self.fail(f"member '{member}' is declared twice")
            members.add(member)
            self.expect(";")
        self.expect(";")
        if name in self.structs:
            self.fail(f"struct '{name}' is declared twice")
        self.structs[name] = members

    def kernel(self):
        if self.accept("[["):
            self.expect("max_total_threads_per_threadgroup"), self.expect("(")
            threads = self.next()[1]
            if not threads.isdigit() or not 1 <= int(threads) <= self.allowed["limits"]["threads"]:
                self.fail(f"{threads} threads in a threadgroup, 1 to {self.allowed['limits']['threads']} are allowed")
            self.expect(")"), self.expect("]]")
        if not self.accept("kernel"):
            self.next()
            self.fail("a function that is no kernel")
        if not self.accept("void"):
            self.next()
            self.fail("a kernel returns void")
        self.entry = self.name("a kernel")
        self.scopes = [{}]
        self.expect("(")
        buffers, positions = [], []
        while True:
            self.parameter(buffers, positions)
            if self.expect(",", ")") == ")":
                break
        if sorted(buffers) != list(range(len(buffers))):
            self.fail(f"the buffers have the numbers {sorted(buffers)}: not unique and dense from 0")
        if len(buffers) > self.allowed["limits"]["buffers"]:
            self.fail(f"{len(buffers)} buffers, {self.allowed['limits']['buffers']} are allowed")
        for position in set(positions):
            if positions.count(position) > 1:
                self.fail(f"two parameters are [[{position}]]")
        self.declare(self.entry, "kernel")
        self.group_bytes = 0
        self.expect("{")
        self.block(outermost=True)
        self.kernels.add(self.entry)

    def parameter(self, buffers, positions):
        space = self.accept(*SPACES)
        constant = bool(self.accept("const"))
        is_struct = self.token in self.structs
        type = self.next()[1] if is_struct else self.type(atomics=True)
        constant |= bool(self.accept("const"))
        marks = ""
        while sign := self.accept("*", "&"):
            marks += sign
            self.accept("__restrict")
        if len(marks) > 1:
            self.fail("a pointer to a pointer")
        name = self.name("a parameter")
        if not self.accept("[["):
            self.next()
            self.fail(f"parameter '{name}' has no attribute")
        attribute = self.next()[1]
        if marks:
            if space is None:
                self.fail(f"parameter '{name}' points without an address space")
            if space not in ("device", "constant"):
                self.fail(f"parameter '{name}' is in address space {space}: a buffer is in device or constant")
            if attribute != "buffer":
                self.fail(f"[[{attribute}]] on a pointer: a buffer has [[buffer(number)]]")
            if type.startswith("bool"):
                self.fail("bool in a buffer: its size is the compiler's")
            self.expect("(")
            number = self.next()[1]
            if not number.isdigit():
                self.fail(f"buffer number '{number}'")
            buffers.append(int(number))
            self.expect(")")
            kind = "struct:" + type if is_struct else "readonly" if constant or space == "constant" else "array"
            self.declare(name, kind, type in self.allowed["atomics"])
        else:
            if space or constant or is_struct:
                self.fail(f"parameter '{name}' is passed by value: only positions are")
            if attribute not in self.allowed["positions"]:
                self.fail(f"attribute [[{attribute}]] is not allowed")
            if type != "uint3":
                self.fail(f"[[{attribute}]] is {type}: positions are uint3")
            positions.append(attribute)
            self.declare(name, "position")
        self.expect("]]")

    # ---- statements

    def block(self, outermost=False):
        if not outermost:
            self.scopes.append({})
        while not self.accept("}"):
            self.statement(outermost)
        if not outermost:
            self.scopes.pop()

    def braces(self):
        self.expect("{")
        self.block()

    def statement(self, outermost):
        kind, text, self.line = self.tokens[self.at]
        if text == "threadgroup":
            return self.threadgroup(outermost)
        if text == "const" or text in self.allowed["types"] or text in FOREIGN:
            return self.local()
        if text in SPACES:
            self.fail(f"a declaration in address space {text} inside a kernel")
        if self.accept("if"):
            self.expect("("), self.expression(), self.expect(")")
            self.braces()
            if self.accept("else"):
                self.braces()
        elif self.accept("while"):
            self.expect("("), self.expect("true"), self.expect(")")
            self.loop_body()
        elif self.accept("for"):
            self.expect("(")
            self.scopes.append({})
            type = self.type()
            name = self.name("a loop's variable")
            self.declare(name, "local")
            self.expect("="), self.expression(), self.expect(";"), self.expression(), self.expect(";")
            self.expect(name), self.expect("+="), self.expression(), self.expect(")")
            self.loop_body()
            self.scopes.pop()
        elif self.accept("break"):
            if not self.loops:
                self.fail("break outside a loop")
            self.expect(";")
        elif kind == "word" and (text in self.allowed["functions"] or text in self.kernels or text == self.entry):
            self.expression()
            self.expect(";")
        elif kind == "word" and self.find(text):
            self.target()
            self.expect("="), self.expression(), self.expect(";")
        else:
            self.fail(f"a statement that begins with '{text}'")

    loops = 0

    def loop_body(self):
        self.loops += 1
        self.braces()
        self.loops -= 1

    def threadgroup(self, outermost):
        self.next()
        if not outermost:
            self.fail("threadgroup memory is declared in an inner block: it belongs to the head of the kernel")
        type = self.type(atomics=True)
        name = self.name("threadgroup memory")
        self.group_bytes = (self.group_bytes + 15) // 16 * 16 + self.array(type)
        self.expect(";")
        if self.group_bytes > self.allowed["limits"]["threadgroup_bytes"]:
            self.fail(f"{self.group_bytes} bytes of threadgroup memory, {self.allowed['limits']['threadgroup_bytes']} are allowed")
        self.declare(name, "array", type in self.allowed["atomics"])

    def array(self, type):
        self.expect("[")
        count = self.next()[1]
        if not count.isdigit() or int(count) < 1:
            self.fail(f"an array of '{count}' elements")
        self.expect("]")
        return int(count) * {**self.allowed["types"], **self.allowed["atomics"]}[type]

    def local(self):
        constant = bool(self.accept("const"))
        type = self.type()
        if self.token in ("*", "&"):
            self.fail("a local pointer or reference")
        name = self.name("a local")
        if self.token == "[":
            self.array(type)
            self.declare(name, "array")
        else:
            if self.accept("="):
                self.expression()
            elif constant:
                self.fail(f"constant '{name}' has no value")
            self.declare(name, "const" if constant else "local")
        self.expect(";")

    def target(self):
        name = self.next()[1]
        kind, atomic = self.find(name)
        if kind == "array":
            if atomic:
                self.fail(f"'{name}' is atomic: it is written by atomic functions")
            self.expect("["), self.expression(), self.expect("]")
        elif kind != "local":
            self.fail(f"assignment to '{name}', which is {'read only' if kind == 'readonly' else 'constant'}")

    # ---- expressions

    def expression(self):
        self.level(0)
        if self.accept("?"):
            self.expression()
            self.expect(":")
            self.expression()

    def level(self, n):
        if n == len(LEVELS):
            return self.prefix()
        self.level(n + 1)
        while self.accept(*LEVELS[n]):
            self.level(n + 1)

    def prefix(self):
        while self.accept("-", "!", "~"):
            pass
        self.primary()
        while True:
            if self.accept("["):
                self.expression()
                self.expect("]")
            elif self.accept("."):
                component = self.next()[1]
                if component not in ("x", "y", "z", "w"):
                    self.fail(f"'.{component}'")
            else:
                return

    def primary(self):
        kind, text = self.next()
        if text == "(":
            self.expression()
            self.expect(")")
        elif kind == "number":
            if not INTEGER.fullmatch(text) and not FLOAT.fullmatch(text):
                self.fail(f"literal '{text}' is of no type that is allowed: a float ends in f, an integer in nothing, u, l or ul")
        elif text == "as_type":
            self.expect("<"), self.type(), self.expect(">")
            self.arguments(1, "as_type")
        elif text in self.allowed["types"]:
            lanes = int(text[-1]) if text[-1].isdigit() else 1
            self.arguments({1, lanes}, text)
        elif text in self.allowed["functions"]:
            self.function(text)
        elif text in self.allowed["constants"]:
            pass
        elif kind == "word":
            self.variable(text)
        else:
            self.fail(f"'{text}' in an expression")

    def variable(self, text):
        found = self.find(text)
        if self.token == "(":
            if text == self.entry:
                self.fail(f"'{text}' calls itself")
            self.fail(f"function '{text}' is not allowed" if text not in self.kernels else f"'{text}' is a kernel: none is called")
        if not found:
            self.fail(f"'{text}' is not declared")
        kind, atomic = found
        if kind.startswith("struct:"):
            self.expect(".")
            member = self.next()[1]
            if member not in self.structs[kind[7:]]:
                self.fail(f"struct {kind[7:]} has no member '{member}'")
        elif kind in ("array", "readonly"):
            if atomic:
                self.fail(f"'{text}' is atomic: it is read by atomic functions")
            if self.token != "[":
                self.fail(f"'{text}' without an index: pointers are not values")
        elif kind == "kernel":
            self.fail(f"'{text}' is a kernel")

    def function(self, text):
        if text.startswith("atomic_"):
            self.expect("("), self.expect("&")
            name = self.next()[1]
            found = self.find(name)
            if not found or not found[1]:
                self.fail(f"{text} on '{name}', which is not atomic")
            self.expect("["), self.expression(), self.expect("]")
            for _ in range(self.allowed["functions"][text] - 2):
                self.expect(",")
                self.expression()
            self.expect(","), self.expect("memory_order_relaxed"), self.expect(")")
        else:
            self.arguments(self.allowed["functions"][text], text)

    def arguments(self, counts, what):
        self.expect("(")
        count = 0
        while not self.accept(")"):
            if count:
                self.expect(",")
            self.expression()
            count += 1
        if count not in (counts if isinstance(counts, set) else {counts}):
            self.fail(f"{what} with {count} arguments")


def check(text, allowed=None):
    """None, or `LINE: what is wrong`."""
    try:
        Checker(text, allowed or read_allowed()).parse()
    except Wrong as wrong:
        return str(wrong)
    return None


if __name__ == "__main__":
    status, rules = 0, read_allowed()
    for file in sys.argv[1:]:
        if problem := check(pathlib.Path(file).read_text(), rules):
            print(f"{file}:{problem}")
            status = 1
    sys.exit(status)
