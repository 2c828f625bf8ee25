#!/usr/bin/env python3
"""A runtime without the bytecode classes i64 and f64: smaller, runs what needs neither, refuses the rest by name.

    classes_test.py --source=DIR --aotc=COMPILER --ingot=TOOL --lib=libingot.a --buildtype=TYPE

Builds the tool in a configuration with -Dbytecode_classes=[] and prints what that saves. Prints one result line a test.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile


def call(*command, status=0):
    done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=1500, text=True)
    if done.returncode != status:
        raise RuntimeError("%s: exit status %d, expected %d: %s" % (command[0], done.returncode, status, done.stdout[-1500:]))
    return done.stdout


def number(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(tag, value):
    if isinstance(value, int):
        return number(tag << 3) + number(value)
    value = value.encode() if isinstance(value, str) else value
    return number(tag << 3 | 2) + number(len(value)) + value


def model(path, element_type):
    """y = x + x, 300 elements."""
    def tensor(name):
        return field(1, name) + field(2, field(1, field(1, element_type) + field(2, field(1, field(1, 300)))))
    node = field(1, "x") + field(1, "x") + field(2, "y") + field(3, "double") + field(4, "Add")
    graph = field(1, node) + field(2, "g") + field(11, tensor("x")) + field(12, tensor("y"))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 14)))


def code_bytes(library):
    """Code and constants of the library's objects."""
    rows = [line.split() for line in call("size", library).splitlines()[1:]]
    return sum(int(row[0]) + int(row[1]) for row in rows)


class Classes:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.build = folder / "build"
        self.tool = self.build / "tools/ingot"
        self.archives = {}
        for name, number_ in (("f32", 1), ("i64", 7), ("f64", 11)):
            onnx, self.archives[name] = folder / (name + ".onnx"), folder / (name + ".ingot")
            model(onnx, number_)
            call(args.aotc, onnx, "-o", self.archives[name], "--target=vmvx", "--progress=off")

    def saved(self):
        call("meson", "setup", self.build, self.args.source, "-Daotc=disabled", "-Dtests=false", "-Dexamples=false",
             "-Dbytecode_classes=[]", "-Dbuildtype=" + self.args.buildtype)
        call("ninja", "-C", self.build, "-j2", "tools/ingot")
        full, small = code_bytes(self.args.lib), code_bytes(self.build / "src/libingot.a")
        print("libingot with all classes of bytecode: %d bytes of code and constants; without i64 and f64: %d, %d less"
              % (full, small, full - small))
        return None if full - small > 50000 else "only %d bytes less" % (full - small)

    def runs(self):
        out = call(self.tool, "run", self.archives["f32"], "--input=300xf32=1.5", "--expect=300xf32=3", "--rtol=0")
        return None if not out.strip() else out

    def refused(self, name):
        archive = self.archives[name]
        call(self.args.ingot, "run", archive, "--input=300x%s=2" % name, "--expect=300x%s=4" % name, "--rtol=0")
        for command, status in (("explain", 0), ("run", 1)):
            flags = ["--input=300x%s=2" % name] if command == "run" else []
            out = call(self.tool, command, archive, *flags, status=status)
            for text in ("kernel add_0", name, "bytecode_classes", "(add_%s)" % name):
                if text not in out:
                    return "%s does not say '%s': %s" % (command, text, out)
        return None

    def i64(self):
        return self.refused("i64")

    def f64(self):
        return self.refused("f64")


def main():
    parser = argparse.ArgumentParser()
    for name in ("source", "aotc", "ingot", "lib", "buildtype"):
        parser.add_argument("--" + name, required=True)
    args = parser.parse_args()
    if os.environ.get("INGOT_FULL") != "1":
        print("skip size/bytecode-classes # it builds a second runtime: ./test.sh --full does")
        return
    failed = False
    with tempfile.TemporaryDirectory(prefix="ingot-classes-") as folder:
        classes = Classes(args, pathlib.Path(folder))
        for name in ("saved", "runs", "i64", "f64"):
            try:
                wrong = getattr(classes, name)()
            except Exception as error:
                wrong = "%s: %s" % (type(error).__name__, error)
            failed = failed or wrong is not None
            print("not ok classes/%s # %s" % (name, " ".join(wrong.split())) if wrong else "ok classes/%s" % name, flush=True)
    sys.exit(1 if failed else 0)


main()
