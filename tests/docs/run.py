"""Runs every code block of the given pages, so that the docs cannot rot.

    run.py --source=DIR --ingot=TOOL --lib=libingot.a --make-archives=PROGRAM [--aotc=COMPILER] [--only=PAGE:LINE] PAGE...

    ```cpp      a program (it has a main), or a fragment that goes on from a prepared session (see PRELUDE); exit status 0
    ```c        a program
    ```console  lines `$ COMMAND`, each followed by exactly what it prints; `...` stands for anything, a line of `...` for any lines
    ```sh       a script that must succeed
    ```meson    parsed by Meson
    ```text     not run

A block in another language, or in none, fails: nothing escapes by accident. The blocks run in a folder with model.onnx,
model.ingot (both of examples/hello) and the hand-made archives; INGOT_SOURCE names the sources. Prints one result line a block.
"""
import argparse
import fnmatch
import os
import pathlib
import re
import subprocess
import sys
import tempfile

INCLUDES = ["<atomic>", "<cstdint>", "<cstdio>", "<cstdlib>", "<mutex>", "<thread>", "<vector>", "<ingot/ingot.hpp>"]
PRELUDE = """
int main() {
  ingot::Instance instance;
  auto archive = ingot::Archive::map("model.ingot");
  if (!archive) return std::fprintf(stderr, "%s\\n", archive.message()), 100;
  auto device = instance.open(*archive, "local-sync");
  if (!device) return std::fprintf(stderr, "%s\\n", device.message()), 100;
  auto session = device->prepare(*archive);
  if (!session) return std::fprintf(stderr, "%s\\n", session.message()), 100;
  float in[4] = {1, 2, 3, 4}, out[4] = {};
  (void)in, (void)out;
  {
"""


def blocks(path):
    """(line, language, text) of each fenced block."""
    found, fence, language, start, lines = [], None, "", 0, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r"^(`{3,})(.*)$", line)
        if fence is None and match:
            fence, language, start, lines = match[1], match[2].strip(), number, []
        elif fence is not None and line.strip() == fence:
            found.append((start, language, "\n".join(lines) + "\n"))
            fence = None
        elif fence is not None:
            lines.append(line)
    if fence is not None:
        raise SystemExit("%s:%d: a block without end" % (path, start))
    return found


def matches(expected, actual):
    """Do the lines agree, with `...` as a wildcard?"""
    if not expected:
        return not actual
    if expected[0].strip() == "...":
        return any(matches(expected[1:], actual[n:]) for n in range(len(actual) + 1))
    if not actual:
        return False
    pattern = "*".join(re.sub(r"([*?\[])", r"[\1]", part) for part in expected[0].rstrip().split("..."))
    return fnmatch.fnmatchcase(actual[0].rstrip(), pattern) and matches(expected[1:], actual[1:])


class Runner:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.number = 0
        programs = folder / "bin"
        programs.mkdir()
        for name, path in (("ingot", args.ingot), ("aotc", args.aotc)):
            if path:
                (programs / name).symlink_to(pathlib.Path(path).resolve())
        self.env = dict(os.environ, PATH="%s:%s" % (programs, os.environ["PATH"]), INGOT_SOURCE=os.path.abspath(args.source))

    def call(self, command, **kw):
        done = subprocess.run(command, cwd=self.folder / "work", env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120, **kw)
        return done.returncode, done.stdout.decode(errors="replace")

    def prepare(self):
        (self.folder / "work").mkdir()
        for command in ([self.args.make_archives, "."], [sys.executable, os.path.join(self.args.source, "examples/hello/make_model.py"), "model.onnx"],
                        ["aotc", "model.onnx", "-o", "model.ingot", "--progress=off"]):
            status, out = self.call(command)
            if status != 0:
                raise SystemExit("%s: exit status %d: %s" % (command[0], status, out))

    def compile_and_run(self, text, suffix, compiler):
        self.number += 1
        source, program = self.folder / ("block%d%s" % (self.number, suffix)), self.folder / ("block%d" % self.number)
        source.write_text(text)
        status, out = self.call([*compiler.split(), "-Wall", "-Wextra", "-Werror", "-I", os.path.join(self.args.source, "include"), str(source),
                                 "-o", str(program), os.path.abspath(self.args.lib), *self.args.link, "-pthread"])
        if status != 0:
            return "does not compile: " + out
        status, out = self.call([str(program)])
        return None if status == 0 else "exit status %d: %s" % (status, out)

    def run_cpp(self, text):
        if "int main(" not in text:
            lines = text.splitlines()
            # Includes go to the top; a page's own beginning (Instance ... session) replaces the prelude's by shadowing it.
            includes = [l for l in lines if l.startswith("#include")]
            body = [l for l in lines if not l.startswith("#include")]
            text = "\n".join(["#include " + i for i in INCLUDES] + includes) + PRELUDE + "\n".join(body) + "\n  }\n  return 0;\n}\n"
        return self.compile_and_run(text, ".cpp", self.args.cxx + " -std=c++17")

    def run_c(self, text):
        self.number += 1
        source, object_file, program = (self.folder / ("block%d%s" % (self.number, s)) for s in (".c", ".o", ""))
        source.write_text(text)
        status, out = self.call([*self.args.cc.split(), "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", os.path.join(self.args.source, "include"),
                                 "-c", str(source), "-o", str(object_file)])
        if status == 0:
            status, out = self.call([*self.args.cc.split(), str(object_file), os.path.abspath(self.args.lib), *self.args.link, "-pthread", "-o", str(program)])
        if status != 0:
            return "does not compile: " + out
        status, out = self.call([str(program)])
        return None if status == 0 else "exit status %d: %s" % (status, out)

    def run_sh(self, text):
        status, out = self.call(["bash", "-euo", "pipefail", "-c", text])
        return None if status == 0 else "exit status %d: %s" % (status, out)

    def run_console(self, text):
        commands = []
        for line in text.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            elif not commands:
                return "it does not begin with a command"
            else:
                commands[-1][1].append(line)
        previous = 0
        for command, expected in commands:
            # `$?` is the status of the command before.
            status, out = self.call(["bash", "-c", "(exit %d)\n%s" % (previous, command)])
            previous = status
            if not matches(expected, out.splitlines()):
                return "`%s` printed:\n%s\nexpected:\n%s" % (command, out, "\n".join(expected))
        return None

    def run_meson(self, text):
        folder = self.folder / "meson"
        folder.mkdir(exist_ok=True)
        (folder / "meson.build").write_text("project('app', 'cpp')\n" + text)
        status, out = self.call(["meson", "introspect", "--ast", str(folder / "meson.build")])
        return None if status == 0 else "Meson cannot parse it: " + out


def codes_are_documented(source):
    """Every error code of ingot.h stands in the table of errors.md."""
    header = pathlib.Path(source, "include/ingot/ingot.h").read_text()
    codes = re.findall(r"^  (INGOT_[A-Z_]+) = \d+,?", header, re.M)
    codes = [c for c in codes if "ELEMENT_TYPE" not in c]
    table = pathlib.Path(source, "docs/errors.md").read_text()
    missing = [c for c in codes if "| `%s` |" % c not in table]
    if len(codes) < 17:
        return "found only %d codes in ingot.h" % len(codes)
    return "not in the table: " + ", ".join(missing) if missing else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--ingot", required=True)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--link", action="append", default=[], help="a further argument of the linker: --link=-lpng; may be repeated")
    parser.add_argument("--make-archives", required=True)
    parser.add_argument("--aotc")
    parser.add_argument("--cxx", default="c++")
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--only")
    parser.add_argument("pages", nargs="+")
    args = parser.parse_args()
    for name in ("ingot", "lib", "make_archives", "source", "aotc"):
        if getattr(args, name):
            setattr(args, name, os.path.abspath(getattr(args, name)))
    failed = False

    def result(name, wrong):
        nonlocal failed
        failed = failed or wrong is not None
        print("not ok docs/%s # %s" % (name, " ".join(wrong.split())) if wrong else "ok docs/%s" % name, flush=True)

    result("codes", codes_are_documented(args.source))
    with tempfile.TemporaryDirectory(prefix="ingot-docs-") as folder:
        runner = Runner(args, pathlib.Path(folder))
        if not args.aotc:
            print("skip docs/blocks # this build has no aotc to compile the model that the pages use")
            sys.exit(1 if failed else 0)
        runner.prepare()
        for page in args.pages:
            path = pathlib.Path(page)
            found = blocks(path)
            if not found:
                result(path.stem, "it has no code block")
            for line, language, text in found:
                name = "%s:%d" % (path.stem, line)
                if language == "text" or (args.only and args.only != name):
                    continue
                run = getattr(runner, "run_" + language, None) if re.fullmatch("[a-z]+", language) else None
                try:
                    wrong = run(text) if run else "a block in '%s': write cpp, c, console, sh, meson or text" % language
                except Exception as error:
                    wrong = "%s: %s" % (type(error).__name__, error)
                result(name, wrong)
    sys.exit(1 if failed else 0)


main()
