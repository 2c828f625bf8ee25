"""Ingot as others use it: installed and found by pkg-config, as a Meson subproject with a model compiled in the build, and with
a driver of another project.

    consumer.py --source=DIR --ingot=TOOL [--aotc=COMPILER] [--cxx=COMPILER] [--build-compiler] [--only=TEST]

The subproject uses the compiler given (through a native file), so that the test does not build it a second time;
--build-compiler builds the subproject's own, as a user's first build does. Prints one result line a test.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


# Alike for all that build Ingot, and without debug information, which names the folder: a compiler cache then has the second.
LIBRARY = ["-Dbuildtype=debug", "-Ddebug=false"]


def call(*command, cwd=None, env=None, timeout=1500):
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise RuntimeError("%s: exit status %d: %s" % (pathlib.Path(str(command[0])).name, done.returncode, text[-1500:]))
    return text


class Consumer:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.source = pathlib.Path(args.source)
        self.prefix = folder / "prefix"
        self.model = None

    def need_model(self):
        if not self.args.aotc:
            return False
        if self.model is None:
            onnx = self.folder / "hello.onnx"
            self.model = self.folder / "hello.ingot"
            call(sys.executable, self.source / "examples/hello/make_model.py", onnx)
            call(self.args.aotc, onnx, "-o", self.model, "--progress=off")
        return True

    def installed(self):
        """meson install, then a compile with nothing but what pkg-config says."""
        build = self.folder / "build"
        call("meson", "setup", build, self.source, "-Daotc=disabled", "-Dtests=false", "-Dexamples=false", *LIBRARY,
             "--prefix=%s" % self.prefix, "--libdir=lib")
        call("meson", "install", "-C", build)
        env = dict(os.environ, PKG_CONFIG_PATH=str(self.prefix / "lib/pkgconfig"))
        flags = call("pkg-config", "--cflags", "--libs", "--static", "ingot", env=env).split()
        program = self.folder / "hello"
        call(*self.args.cxx.split(), "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti",
             self.source / "examples/hello/hello.cpp", "-o", program, *flags, cwd=self.folder)
        # It needs libc and what every C++ program may bring, nothing of its own.
        libraries = re.findall(r"NEEDED\s+(\S+)", call("objdump", "-p", program))
        strange = [l for l in libraries if not re.match(r"(libc|libm|libstdc\+\+|libgcc_s|libpthread|ld-linux.*)\.so", l)]
        if strange:
            return "it needs %s" % ", ".join(strange)
        if not self.need_model():
            return "skip: built, but this build has no aotc to compile a model for it"
        out = call(program, self.model)
        return None if out.strip() == "0 10.5 5 22.5" else "it printed: " + out

    def installed_tool(self):
        out = call(self.prefix / "bin/ingot", "list-drivers")
        return None if "local-sync" in out else out

    def c_header(self):
        """The C ABI from C11, with the installed headers."""
        program = self.folder / "c"
        (self.folder / "c.c").write_text('#include <ingot/ingot.h>\n#include <ingot/driver.h>\n#include <stdio.h>\n'
                                         'int main(void) { ingot_error_t error; ingot_archive_t *archive = 0;\n'
                                         '  if (ingot_archive_map(0, "none.ingot", &archive, &error) != INGOT_NOT_FOUND) return 1;\n'
                                         '  return puts(error.message) < 0; }\n')
        env = dict(os.environ, PKG_CONFIG_PATH=str(self.prefix / "lib/pkgconfig"))
        flags = call("pkg-config", "--cflags", "--libs", "--static", "ingot", env=env).split()
        call("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", self.folder / "c.c", "-o", program, *flags)
        out = call(program, cwd=self.folder)
        return None if "none.ingot" in out else out

    def subproject(self):
        """examples/subproject, copied out of the tree, with a link to the sources as its subproject."""
        if not self.args.aotc and not self.args.build_compiler:
            return "skip: this build has no aotc"
        project = self.folder / "weather"
        shutil.copytree(self.source / "examples/subproject", project)
        (project / "subprojects").mkdir(exist_ok=True)
        (project / "subprojects/ingot").symlink_to(self.source)
        options = LIBRARY
        if not self.args.build_compiler:
            native = self.folder / "native.ini"
            native.write_text("[binaries]\naotc = '%s'\n" % pathlib.Path(self.args.aotc).resolve())
            options = [*options, "--native-file=%s" % native, "-Dingot:aotc=disabled", "-Dingot:bytecode=false"]
        call("meson", "setup", project / "build", project, *options)
        call("ninja", "-C", project / "build", "app", "model.ingot")
        out = call(project / "build/app", project / "build/model.ingot")
        if out.split() != "0 10.5 5 22.5 5 20.5 0 6.5".split():
            return "it printed: " + out
        return None

    def external_driver(self):
        """examples/external-driver: a driver of another project joins the library's table through an option."""
        if not self.args.aotc:
            return "skip: this build has no aotc"
        project = self.folder / "external-driver"
        shutil.copytree(self.source / "examples/external-driver", project)
        (project / "subprojects").mkdir(exist_ok=True)
        (project / "subprojects/ingot").symlink_to(self.source)
        native = self.folder / "external.ini"
        native.write_text("[binaries]\naotc = '%s'\n" % pathlib.Path(self.args.aotc).resolve())
        call("meson", "setup", project / "build", project, *LIBRARY, "--native-file=%s" % native, "-Dingot:aotc=disabled", "-Dingot:bytecode=false")
        call("ninja", "-C", project / "build", "app", "model.ingot", "subprojects/ingot/tools/ingot")
        out = call(project / "build/app", project / "build/model.ingot")
        if out.split() != "example://0: 0 10.5 5 22.5".split():
            return "it printed: " + out
        tool = project / "build/subprojects/ingot/tools/ingot" # Ingot's own tools have the driver too
        if "example" not in call(tool, "list-drivers"):
            return "ingot list-drivers does not know it"
        call(tool, "run", project / "build/model.ingot", "--device=example", "--input=x=2x2xf32=1,2,3,4", "--output=-", "--expect=y=2x2xf32=0,10.5,5,22.5")
        return None

    def hello(self):
        if not self.args.hello or not self.need_model():
            return "skip: this build has no examples, or no aotc"
        out = call(self.args.hello, self.model)
        if out.strip() != "0 10.5 5 22.5":
            return "it printed: " + out
        done = subprocess.run([self.args.hello, self.folder / "none.ingot"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return None if done.returncode == 1 and b"none.ingot" in done.stderr else "a missing archive: %s" % done

    def tool_run(self):
        if not self.need_model():
            return "skip: this build has no aotc"
        call(self.args.ingot, "run", self.model, "--input=x=2x2xf32=1,2,3,4", "--output=-", "--expect=y=2x2xf32=0,10.5,5,22.5")
        # A prepared run allocates nothing, and its arena is what inspect says.
        report = json.loads(call(self.args.ingot, "bench", self.model, "--json", "--runs=50"))
        inspected = json.loads(call(self.args.ingot, "inspect", self.model, "--json"))
        peak = inspected["variants"][0]["functions"][0]["memory"]["peak_at_minimum"]
        if report["allocations_per_run"] != 0 or report["arena_bytes"] != peak:
            return "%s allocations a run, %s bytes of arena, inspect says %s" % (report["allocations_per_run"], report["arena_bytes"], peak)
        # With tensors in the device's memory the same run takes buffers: four floats in, four out.
        there = json.loads(call(self.args.ingot, "bench", self.model, "--json", "--runs=50", "--on-device"))
        if there["runs"] != 50 or there["allocations_per_run"] != 0 or there["device_tensor_bytes"] != 32 or report["device_tensor_bytes"] != 0:
            return "on the device: %s runs, %s allocations a run, %s bytes of tensors there, and %s without --on-device" % (
                there["runs"], there["allocations_per_run"], there["device_tensor_bytes"], report["device_tensor_bytes"])
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--ingot", required=True)
    parser.add_argument("--aotc")
    parser.add_argument("--hello")
    parser.add_argument("--cxx", default="c++")
    parser.add_argument("--build-compiler", action="store_true")
    parser.add_argument("--only", help="one test")
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="ingot-consumer-") as folder:
        consumer = Consumer(args, pathlib.Path(folder))
        for name in ("tool_run", "hello", "installed", "installed_tool", "c_header", "subproject", "external_driver"):
            if args.only and args.only != name:
                continue
            try:
                wrong = getattr(consumer, name)()
            except Exception as error:
                wrong = "%s: %s" % (type(error).__name__, error)
            if wrong and wrong.startswith("skip: "):
                print("skip consumer/%s # %s" % (name, wrong[6:]), flush=True)
            elif wrong:
                failed = True
                print("not ok consumer/%s # %s" % (name, " ".join(wrong.split())), flush=True)
            else:
                print("ok consumer/%s" % name, flush=True)
    sys.exit(1 if failed else 0)


main()
