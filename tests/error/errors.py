"""Command lines that must fail: the message says what, where and what to do, and the exit status is right.

    errors.py --ingot=TOOL --make-archives=PROGRAM [--aotc=COMPILER] [--only=NAME]

Prints one result line a case. Plain Python 3. The archives are hand-made, so that most cases need no compiler.
"""
import argparse
import json
import os
import pathlib
import stat
import struct
import subprocess
import sys
import tempfile


def npy(descr="<f4", shape="(8,)", order="False", data=b"\0" * 32, version=(1, 0), header=None, length=None):
    """Bytes of a .npy file, any part of which may be wrong."""
    text = header if header is not None else "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
    encoded = (text + "\n").encode()
    size = len(encoded) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", size) + encoded + data


class Cases:
    def __init__(self, args, folder):
        self.ingot, self.aotc, self.folder = args.ingot, args.aotc, folder
        done = subprocess.run([args.make_archives, str(folder)])
        if done.returncode != 0:
            raise SystemExit("make_archives failed")

    def file(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def archive(self, name):
        return str(self.folder / (name + ".ingot"))

    def call(self, program, *arguments, stdin=None, **kw):
        try:
            done = subprocess.run([program, *map(str, arguments)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=60, **kw)
        except subprocess.TimeoutExpired:
            return "timeout", "", ""
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def expect(self, status, texts, *arguments, program=None, on="stderr", **kw):
        """None where the status and every text are as expected, else what is wrong."""
        code, out, err = self.call(program or self.ingot, *arguments, **kw)
        if code != status:
            return "exit status %s, expected %s: %s" % (code, status, err or out)
        where = err if on == "stderr" else out
        for text in texts:
            if text not in where:
                return "'%s' is not in: %s" % (text, where.strip())
        if status != 0 and not err.startswith(("ingot: ", "aotc: ")):
            return "the message does not begin with the program's name: %s" % err
        return None

    def run(self, status, texts, *inputs, archive="add_scale", output="-", extra=()):
        return self.expect(status, texts, "run", self.archive(archive), *["--input=" + i for i in inputs], "--output=" + output, *extra)

    # ---- usage
    def usage_no_command(self):
        return self.expect(2, ["--help"])

    def usage_unknown_command(self):
        return self.expect(2, ["no command 'frobnicate'"], "frobnicate")

    def usage_unknown_flag(self):
        return self.expect(2, ["--no-such-flag"], "run", self.archive("add_scale"), "--no-such-flag")

    def usage_no_archive(self):
        return self.expect(2, ["archive is required"], "run")

    def usage_bad_tolerance(self):
        return self.expect(2, ["--rtol"], "run", self.archive("add_scale"), "--rtol=wide")

    def usage_help(self):
        return self.expect(0, ["run", "bench", "inspect", "verify", "explain", "list-drivers"], "--help", on="stdout")

    def usage_zero_threads(self):
        return self.expect(2, ["--threads"], "bench", self.archive("add_scale"), "--threads=0")

    def threads_that_the_device_lacks(self):
        return self.expect(1, ["threads=64", "local-sync", "one thread"], "bench", self.archive("add_scale"), "--threads=64", "--device=local-sync")

    # ---- archives
    def archive_missing(self):
        for command in ("run", "bench", "inspect", "verify", "explain"):
            wrong = self.expect(1, ["nowhere.ingot", "No such file", "INGOT_NOT_FOUND"], command, self.folder / "nowhere.ingot")
            if wrong:
                return command + ": " + wrong
        return None

    def archive_is_a_folder(self):
        return self.expect(1, [str(self.folder)], "verify", self.folder)

    def archive_empty(self):
        return self.expect(1, ["0 bytes", "not an archive"], "verify", self.file("empty.ingot", b""))

    def archive_something_else(self):
        return self.expect(1, ["else.ingot", "magic number", "not an Ingot archive"], "verify",
                           self.file("else.ingot", b"this is no archive, but it is longer than the header of one would be......"))

    def archive_truncated(self):
        data = pathlib.Path(self.archive("free_add")).read_bytes()
        for size in (70, 1000, len(data) - 1):
            wrong = self.expect(1, ["truncated", str(len(data)), str(size)], "run", self.file("short.ingot", data[:size]))
            if wrong:
                return wrong
        return None

    def archive_longer(self):
        data = pathlib.Path(self.archive("free_add")).read_bytes()
        return self.expect(1, ["longer than it was written"], "verify", self.file("long.ingot", data + b"\0"))

    def archive_damaged_everywhere(self):
        """A bit flipped at each 97th byte: no archive is accepted, and each message says it is damaged or what is wrong."""
        data = pathlib.Path(self.archive("control_flow")).read_bytes()
        for at in range(0, len(data), 97):
            bad = bytearray(data)
            bad[at] ^= 4
            wrong = self.expect(1, ["archive"], "verify", "--hash", self.file("bad.ingot", bytes(bad)))
            if wrong:
                return "byte %d: %s" % (at, wrong)
        return None

    def archive_of_the_future(self):
        return self.expect(1, ["needs features", "update Ingot", "INGOT_INCOMPATIBLE"], "inspect", self.archive("future_features"))

    def archive_for_another_architecture(self):
        return self.run(1, ["pdp11", "this machine is"], "4xf32=1", archive="foreign_arch")

    def explain_another_architecture(self):
        return self.expect(0, ["llvm-cpu pdp11", "local-sync://0: refused: it is for pdp11, this machine is", "null://0: accepted"],
                           "explain", self.archive("foreign_arch"), on="stdout")

    def explain_another_target(self):
        return self.expect(0, ["refused: it is for target abacus, this driver runs llvm-cpu"], "explain", self.archive("foreign_target"), on="stdout")

    def explain_missing_features(self):
        return self.expect(0, ["refused", "no code version for this CPU"], "explain", self.archive("foreign_features"), on="stdout")

    def explain_second_variant(self):
        return self.expect(0, ["variant 0: abacus", "refused", "variant 1: llvm-cpu", "accepted"], "explain", self.archive("second_variant"), on="stdout")

    def run_missing_features(self):
        return self.run(1, ["no code version for this CPU"], "4xf32=1", archive="foreign_features")

    # ---- devices and functions
    def device_unknown(self):
        return self.expect(1, ["teleporter"], "run", self.archive("add_scale"), "--input=8xf32=1", "--device=teleporter")

    def device_malformed(self):
        return self.expect(1, ["local-sync:x", "driver:ordinal"], "run", self.archive("add_scale"), "--input=8xf32=1", "--device=local-sync:x")

    def device_ordinal(self):
        return self.expect(1, ["no such device"], "run", self.archive("add_scale"), "--input=8xf32=1", "--device=local-sync:7")

    def device_option(self):
        return self.expect(1, ["unknown option"], "run", self.archive("add_scale"), "--input=8xf32=1", "--device=local-sync://0?speed=9")

    def driver_unknown(self):
        for command in ("list-devices", "dump-devices"):
            wrong = self.expect(1, ["no driver 'abacus'", "local-sync"], command, "abacus")
            if wrong:
                return wrong
        return None

    def function_unknown(self):
        return self.expect(1, ["no function 'init'", "'main'"], "run", self.archive("add_scale"), "--function=init")

    # ---- inputs
    def input_missing(self):
        return self.expect(2, ["no --input for 'x' (8xf32)"], "run", self.archive("add_scale"))

    def input_one_of_two_missing(self):
        return self.expect(2, ["no --input for 'y'"], "run", self.archive("free_add"), "--input=x=2x2xf32=1")

    def input_unknown_name(self):
        return self.run(2, ["no input is called 'q'", "'x'"], "q=8xf32=1")

    def input_twice(self):
        return self.run(2, ["'x' is given twice"], "x=8xf32=1", "x=8xf32=2")

    def input_too_many(self):
        return self.run(2, ["more --inputs than the function has"], "8xf32=1", "8xf32=2")

    def input_wrong_dims(self):
        return self.run(1, ["input 'x': dim 0 is 9, expected 8", "given x: 9xf32; the function takes x: 8xf32"], "9xf32=1")

    def input_wrong_rank(self):
        return self.run(1, ["x", "rank"], "8x1xf32=1")

    def input_wrong_type(self):
        return self.run(1, ["x", "i32", "f32"], "8xi32=1")

    def input_above_range(self):
        return self.run(1, ["4097", "4096"], "1x4097xf32=1", "1x4097xf32=1", archive="free_add")

    def input_dims_that_differ(self):
        return self.run(1, ["y", "3", "2"], "2x2xf32=1", "2x3xf32=1", archive="free_add")

    def input_free_dims_unsaid(self):
        return self.run(2, ["say which shape"], "random:1", "random:2", archive="free_add")

    # ---- malformed specs
    def spec_no_form(self):
        return self.run(2, ["describes no input", "@FILE.npy"], "hello")

    def spec_unknown_type(self):
        return self.run(2, ["describes no input"], "8xf31=1")

    def spec_negative_dim(self):
        return self.run(2, ["describes no input"], "-8xf32=1")

    def spec_value_count(self):
        return self.run(2, ["3 values for the 8 elements"], "8xf32=1,2,3")

    def spec_too_many_values(self):
        return self.run(2, ["9 values for the 8 elements"], "8xf32=1,2,3,4,5,6,7,8,9")

    def spec_no_number(self):
        return self.run(2, ["'two'", "is no f32"], "8xf32=1,two,3,4,5,6,7,8")

    def spec_empty_value(self):
        return self.run(2, ["is no f32"], "8xf32=1,,3,4,5,6,7,8")

    def spec_integer_overflow(self):
        return self.run(2, ["'300'", "is no u8"], "8xu8=300")

    def spec_fraction_for_integer(self):
        return self.run(2, ["'1.5'", "is no i32"], "8xi32=1.5")

    def spec_seed(self):
        return self.run(2, ["seed"], "random:many")

    def spec_huge(self):
        return self.run(1, ["2^31 elements"], "65536x65536xf32=1")

    def spec_overflowing(self):
        return self.run(1, ["2^31 elements"], "9223372036854775807x9223372036854775807xf32=1")

    def spec_rank(self):
        return self.run(1, ["rank 9"], "1x1x1x1x1x1x1x1x1xf32=1")

    def spec_bin_without_type(self):
        return self.run(2, ["raw bytes need a type in front", "8xf32=@"], "@" + self.file("raw.bin", b"\0" * 32))

    def spec_bin_size(self):
        return self.run(1, ["31 bytes", "takes 32"], "8xf32=@" + self.file("raw.bin", b"\0" * 31))

    def spec_npy_of_another_type(self):
        return self.run(1, ["8xf32", "8xf64"], "8xf64=@" + self.file("a.npy", npy()))

    # ---- .npy files
    def npy_refused(self, data, *texts):
        return self.run(1, ["bad.npy", *texts], "@" + self.file("bad.npy", data))

    def npy_missing(self):
        return self.run(1, ["none.npy", "No such file"], "@" + str(self.folder / "none.npy"))

    def npy_folder(self):
        return self.run(1, ["not a regular file"], "@" + str(self.folder))

    def npy_no_magic(self):
        return self.npy_refused(b"PK\3\4 something else", "not a .npy file")

    def npy_empty(self):
        return self.npy_refused(b"", "not a .npy file")

    def npy_version(self):
        return self.npy_refused(npy(version=(9, 0)), "version 9.0")

    def npy_header_past_end(self):
        return self.npy_refused(npy(length=60000), "truncated or damaged")

    def npy_header_garbage(self):
        return self.npy_refused(npy(header="import os"), "malformed .npy header")

    def npy_header_nested(self):
        return self.npy_refused(npy(header="{" * 5000), "malformed .npy header")

    def npy_header_expression(self):
        return self.npy_refused(npy(shape="(2*4,)"), "malformed .npy header")

    def npy_header_missing_key(self):
        return self.npy_refused(npy(header="{'descr': '<f4', 'shape': (8,)}"), "fortran_order")

    def npy_header_twice(self):
        return self.npy_refused(npy(header="{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (8,)}"), "twice")

    def npy_negative_shape(self):
        return self.npy_refused(npy(shape="(-8,)"), "malformed .npy header")

    def npy_huge_shape(self):
        return self.npy_refused(npy(shape="(99999999999, 99999999999)"), "2^40")

    def npy_huge_dim(self):
        return self.npy_refused(npy(shape="(99999999999999999999,)"), "2^48")

    def npy_rank(self):
        return self.npy_refused(npy(shape="(1,1,1,1,1,1,1,1,8)"), "rank above 8")

    def npy_truncated(self):
        return self.npy_refused(npy(data=b"\0" * 31), "needs 32 bytes", "31", "truncated")

    def npy_too_long(self):
        return self.npy_refused(npy(data=b"\0" * 33), "too many")

    def npy_big_endian(self):
        return self.npy_refused(npy(descr=">f4"), "big-endian", "astype('<f4')")

    def npy_objects(self):
        return self.npy_refused(npy(descr="|O8"), "Python objects")

    def npy_text(self):
        return self.npy_refused(npy(descr="<U4"), "holds text")

    def npy_structured(self):
        return self.npy_refused(npy(header="{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (8,)}"), "structured")

    def npy_long_double(self):
        return self.npy_refused(npy(descr="<f16"), "is not supported")

    def npy_versions_2_and_3(self):
        values = struct.pack("<8f", *range(8))
        for version in ((2, 0), (3, 0)):
            path = self.file("v.npy", npy(version=version, data=values))
            wrong = self.expect(0, ["8xf32 = [0 3 6 9 12 15 18 21]"], "run", self.archive("add_scale"), "--input=@" + path, on="stdout")
            if wrong:
                return wrong
        return None

    def npy_fortran_order(self):
        """The same matrix in both orders gives the same sum."""
        rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
        c = self.file("c.npy", npy(shape="(2, 3)", data=struct.pack("<6f", *[v for r in rows for v in r])))
        f = self.file("f.npy", npy(shape="(2, 3)", order="True", data=struct.pack("<6f", *[rows[i][j] for j in range(3) for i in range(2)])))
        out = self.folder / "sum.npy"
        wrong = self.expect(0, [], "run", self.archive("free_add"), "--input=@" + c, "--input=@" + f, "--output=@" + str(out))
        if wrong:
            return wrong
        got = struct.unpack("<6f", out.read_bytes()[-24:])
        return None if got == (2, 4, 6, 8, 10, 12) else str(got)

    # ---- outputs and references
    def output_unwritable_folder(self):
        return self.run(1, ["no/such/folder/y.npy", "cannot be written"], "8xf32=1", output="@" + str(self.folder / "no/such/folder/y.npy"))

    def output_is_a_folder(self):
        return self.run(1, ["cannot be written", "folder"], "8xf32=1", output="@" + str(self.folder))

    def output_full_device(self):
        if not os.path.exists("/dev/full"):
            return "skip: no /dev/full here"
        return self.run(1, ["/dev/full", "cannot be written"], "8xf32=1", output="@/dev/full")

    def output_no_rights(self):
        if os.geteuid() == 0:
            return "skip: the superuser may write anywhere"
        folder = self.folder / "locked"
        folder.mkdir()
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        return self.run(1, ["cannot be written"], "8xf32=1", output="@" + str(folder / "y.npy"))

    def output_nothing_left_behind(self):
        target = self.folder / "out"
        target.mkdir()
        self.run(1, ["describes no"], "nonsense", output="@" + str(target / "y.npy"))
        self.run(1, ["rank"], "8x1xf32=1", output="@" + str(target / "y.npy"))
        left = list(target.iterdir())
        return "left behind: %s" % left if left else None

    def output_malformed(self):
        return self.run(2, ["describes no output"], "8xf32=1", output="y.npy")

    def output_unknown_name(self):
        return self.run(2, ["no output is called 'z'", "'y'"], "8xf32=1", output="z=-")

    def expect_differs(self):
        return self.run(1, ["output 'y'", "8 of 8 elements differ", "first at [0]", "expected"], "8xf32=1,2,3,4,5,6,7,8",
                        extra=["--expect=8xf32=9,8,7,6,5,4,3,99"])

    def expect_shape(self):
        return self.run(1, ["output 'y'", "8xf32", "expected 4xf32"], "8xf32=1", extra=["--expect=4xf32=1,2,3,4"])

    def expect_constant_proves_nothing(self):
        return self.run(1, ["constant", "proves nothing"], "8xf32=1", extra=["--expect=8xf32=2"])

    def expect_zero_proves_nothing(self):
        return self.run(1, ["zero", "proves nothing"], "8xf32=1", extra=["--expect=8xf32=0"])

    def expect_nan_proves_nothing(self):
        return self.run(1, ["not finite", "proves nothing"], "8xf32=1", extra=["--expect=8xf32=nan,1,2,3,4,5,6,7"])

    def expect_agrees(self):
        out = self.folder / "reference.npy"
        wrong = self.run(0, [], "random:3", output="@" + str(out))
        if wrong:
            return wrong
        return self.run(0, [], "random:3", extra=["--expect=y=@" + str(out)]) or \
            self.run(1, ["differ"], "random:4", extra=["--expect=y=@" + str(out)])

    # ---- data that the model refuses
    def kernel_error_names_the_node(self):
        return self.run(1, ["model/lookup", "Gather", "INGOT_KERNEL_ERROR"], "index=3xi64=0,1,9", archive="gather")

    def check_fails(self):
        return self.run(1, ["the trip count must not be negative", "INGOT_CHECK_FAILED"], "i64=-3", archive="control_flow")

    # ---- run-many
    def run_many_lines(self):
        lines = [json.dumps({"archive": self.archive("add_scale"), "inputs": ["x=8xf32=1"], "outputs": ["y=@" + str(self.folder / "m.npy")]}),
                 "not json", json.dumps({"archive": "none.ingot", "outputs": ["@a.npy"]}), json.dumps({"archvie": 1}),
                 json.dumps({"archive": self.archive("add_scale"), "inputs": ["8xf32=1"]})]
        code, out, err = self.call(self.ingot, "run-many", "-", stdin="\n".join(lines).encode())
        results = [json.loads(line) for line in out.splitlines()]
        if code != 1 or [r["index"] for r in results] != [0, 1, 2, 3, 4]:
            return "exit status %s: %s %s" % (code, out, err)
        if [r["status"] for r in results] != [0, 2, 1, 2, 2]:
            return "statuses: %s" % results
        texts = ["", "not a run", "none.ingot", "unknown key 'archvie'", "neither"]
        for result, text in zip(results, texts):
            if text not in result.get("error", ""):
                return "'%s' is not in %s" % (text, result)
        return None if (self.folder / "m.npy").exists() else "the output was not written"

    def run_many_missing_list(self):
        return self.expect(1, ["none.jsonl", "cannot be opened"], "run-many", self.folder / "none.jsonl")

    # ---- aotc
    def aotc_case(self, status, texts, *arguments):
        if not self.aotc:
            return "skip: this build has no aotc"
        return self.expect(status, texts, *arguments, program=self.aotc)

    def aotc_unknown_flag(self):
        return self.aotc_case(2, ["--no-such-flag"], "--no-such-flag")

    def aotc_no_model(self):
        return self.aotc_case(2, [])

    def aotc_missing_model(self):
        return self.aotc_case(1, ["none.onnx"], self.folder / "none.onnx", "-o", self.folder / "none.ingot")

    def aotc_not_a_model(self):
        wrong = self.aotc_case(1, ["text.onnx"], self.file("text.onnx", b"hello, I am a poem\xff\xff"), "-o", self.folder / "text.ingot")
        return wrong or ("left behind" if (self.folder / "text.ingot").exists() else None)

    def aotc_unknown_target(self):
        return self.aotc_case(2, ["abacus"], self.file("text.onnx", b""), "-o", self.folder / "t.ingot", "--target=abacus")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ingot", required=True)
    parser.add_argument("--make-archives", required=True)
    parser.add_argument("--aotc")
    parser.add_argument("--only")
    args = parser.parse_args()
    failed = False
    helpers = {"file", "archive", "call", "expect", "run", "npy_refused", "aotc_case"}
    with tempfile.TemporaryDirectory(prefix="ingot-error-") as folder:
        cases = Cases(args, pathlib.Path(folder))
        for name in sorted(n for n in dir(cases) if not n.startswith("_") and n not in helpers and callable(getattr(cases, n))):
            if args.only and name != args.only:
                continue
            try:
                wrong = getattr(cases, name)()
            except Exception as error:  # the case's own trouble is a failure too
                wrong = "%s: %s" % (type(error).__name__, error)
            if wrong and wrong.startswith("skip: "):
                print("skip error/%s # %s" % (name, wrong[6:]))
            elif wrong:
                failed = True
                print("not ok error/%s # %s" % (name, " ".join(wrong.split())))
            else:
                print("ok error/%s" % name)
    sys.exit(1 if failed else 0)


main()
