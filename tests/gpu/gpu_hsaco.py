"""Code objects for AMD GPUs: every kernel of every model, for each chip, as LLVM's own tools read it. Nothing here runs them.

    .cache/venv/bin/python tests/gpu/gpu_hsaco.py [--build=DIR] [--only='kernels-*'] [--full | --share=N]

`kernels-MODEL-CHIP` compiles a model for rocm:CHIP and compares each code object with the kernel it came from: its name, chip,
arguments, workgroups, workgroup memory and registers in the metadata; barriers, matrix units and an end in what disassembles;
`kernels-MODEL-CHIP-f16` the same with precision=f16, where the chip has matrix units. `rules-...`
gives the check a kernel that differs in one thing, or a broken object, which it must find.
"""
import re
import shutil

import shaders  # first: it knows where the other modules lie
import harness

READOBJ, OBJDUMP = "llvm-readobj-19", "llvm-objdump-19"
# Lanes of a wave, and the registers of a lane that a wave of the largest workgroup may have.
CHIPS = {"gfx90a": (64, 512), "gfx942": (64, 512), "gfx1030": (32, 256), "gfx1100": (32, 256), "gfx1201": (32, 256)}
UNITS = {"gfx90a": "v_mfma_f32_16x16x16", "gfx942": "v_mfma_f32_16x16x16", "gfx1100": "v_wmma_f32_16x16x16_f16", "gfx1201": "v_wmma_f32_16x16x16_f16"}
MAGIC = b"\x7fELF\x02\x01\x01\x40"  # 64 bits, for HSA
WIDTH = {"f64": 8, "i64": 8, "u64": 8, "f32": 4, "i32": 4, "u32": 4, "f16": 2, "bf16": 2, "i16": 2, "u16": 2}


class Kernel:
    """What the kernel's text says that its code object must say too."""

    def __init__(self, name, text):
        self.name = name
        self.size = tuple(map(int, re.search(r"^kernel @\w+ simt local (\d+) (\d+) (\d+)", text, re.M).groups()))
        self.buffers = len(re.findall(r"^  buffer @", text, re.M)) + bool(re.search(r"^ +error ", text, re.M))
        self.params = len(re.findall(r"^  param ", text, re.M))
        arrays = re.findall(r"^  array @\w+ workgroup (\w+) (\d+)", text, re.M)
        self.shared = sum(WIDTH.get(kind, 1) * int(count) for kind, count in arrays)
        self.barrier = bool(re.search(r"^ +barrier\b", text, re.M))
        self.unit = " fragment_mma " in text

    @property
    def threads(self):
        return self.size[0] * self.size[1] * self.size[2]


def number(text, key):
    found = re.search(rf"\{key}:\s+(\d+)", text)
    return int(found[1]) if found else -1


def wrong_with(kernel, chip, notes, code):
    """'' or what the code object lacks; `notes`: its metadata, `code`: its disassembly."""
    lanes, registers = CHIPS[chip]
    if f"amdgcn-amd-amdhsa--{chip}" not in notes:
        return "is for another chip"
    if not re.search(rf"\.name:\s+{kernel.name}\n", notes) or not re.search(rf"\.symbol:\s+'?{kernel.name}\.kd'?\n", notes):
        return "has another name in its metadata"
    if (found := notes.count("global_buffer")) != kernel.buffers:
        return f"has {found} buffers, expected {kernel.buffers}"
    if (found := notes.count("by_value")) != kernel.params:
        return f"has {found} params, expected {kernel.params}"
    sizes = re.search(r"\.reqd_workgroup_size:\s+- (\d+)\s+- (\d+)\s+- (\d+)", notes)
    if not sizes or tuple(map(int, sizes.groups())) != kernel.size:
        return f"has workgroups of {sizes and sizes.groups()}, expected {kernel.size}"
    if number(notes, ".max_flat_workgroup_size") != kernel.threads:
        return "allows other workgroups"
    if number(notes, ".wavefront_size") != lanes:
        return f"has waves of {number(notes, '.wavefront_size')}, expected {lanes}"
    if not kernel.shared <= number(notes, ".group_segment_fixed_size") <= 64 << 10:
        return f"has {number(notes, '.group_segment_fixed_size')} bytes of workgroup memory, expected {kernel.shared}"
    if not 0 < number(notes, ".vgpr_count") <= registers or not 0 < number(notes, ".sgpr_count") <= 128:
        return f"has {number(notes, '.vgpr_count')} and {number(notes, '.sgpr_count')} registers"
    if "<unknown>" in code or "s_endpgm" not in code:
        return "does not disassemble to its end"
    if kernel.barrier and kernel.threads > lanes and "s_barrier" not in code:
        return "has lost its barriers"
    if kernel.unit != (UNITS.get(chip, "no unit") in code):
        return "has lost its matrix units" if kernel.unit else "has matrix units"
    return ""


def listed(command, folder, names):
    """{file name: what the tool says of it}, in one call."""
    status, out, err = harness.Tools.call([*command, *(folder / n for n in names)], timeout=300)
    if status != 0:
        raise RuntimeError(f"{command[0]}: exit status {status}: {err}")
    parts = re.split(rf"^(?:File: )?{re.escape(str(folder))}/(\S+?):?(?:\s+file format .*)?$", out, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def objects(archive, folder):
    """[(metadata, disassembly)] of the code objects in the archive's bytes."""
    data = archive.read_bytes()
    places = [m.start() for m in re.finditer(re.escape(MAGIC), data)]
    names = []
    for i, (at, end) in enumerate(zip(places, [*places[1:], len(data)])):
        # An object's end: its table of sections comes last.
        sections, size, count = (int.from_bytes(data[at + o:at + o + n], "little") for o, n in ((0x28, 8), (0x3a, 2), (0x3c, 2)))
        (folder / f"{i}.hsaco").write_bytes(data[at:min(end, at + sections + size * count)])
        names.append(f"{i}.hsaco")
    notes, code = listed([READOBJ, "--notes"], folder, names), listed([OBJDUMP, "-d", "--no-show-raw-insn"], folder, names)
    return [(notes[n], code[n]) for n in names]


def compiled(tools, name, chip, scratch, precision=""):
    """([Kernel], [(metadata, disassembly)]) of a model, or an Outcome."""
    path, flags = shaders.all_models()[name]
    text, archive = scratch / "kernels.txt", scratch / "model.ingot"
    for output, more in (text, ["--emit=kernels"]), (archive, []):
        status, _, err = tools.compile(path, output, f"--target=rocm:{chip}{precision}", *flags, *more, timeout=600)
        if status != 0:
            return harness.fail(f"aotc: exit status {status}: {err}")
    kernels = [Kernel(*found) for found in re.findall(r"^// (\w+):[^\n]*\n(kernel @.*?^\})", text.read_text(), re.M | re.S)]
    return kernels, objects(archive, scratch)


def check_model(tools, name, chip, scratch, precision=""):
    found = compiled(tools, name, chip, scratch, precision)
    if isinstance(found, harness.Outcome):
        return found
    kernels, all_objects = found
    by_name = {re.search(r"^\s+\.name:\s+(\w+)\n\s+\.private", notes, re.M)[1]: (notes, code) for notes, code in all_objects}
    if not kernels or set(by_name) != {k.name for k in kernels}:
        return harness.fail(f"objects of {sorted(by_name)}, kernels are {sorted(k.name for k in kernels)}")
    spilled = 0
    for kernel in kernels:
        if wrong := wrong_with(kernel, chip, *by_name[kernel.name]):
            return harness.fail(f"{kernel.name} {wrong}")
        spilled += number(by_name[kernel.name][0], ".vgpr_spill_count") > 0
    return harness.ok(f"{len(kernels)} kernels, {sum(k.unit for k in kernels)} on matrix units, {spilled} with spilled registers")


# what is wrong: (how the kernel or what was read of its object is changed, a piece of the message)
PLANTED = {
    "name": (lambda k, n, c: setattr(k, "name", "other") or (n, c), "another name"),
    "buffers": (lambda k, n, c: setattr(k, "buffers", k.buffers + 1) or (n, c), "buffers, expected"),
    "params": (lambda k, n, c: setattr(k, "params", k.params + 1) or (n, c), "params, expected"),
    "workgroups": (lambda k, n, c: setattr(k, "size", (k.size[0] // 2, 2, 1)) or (n, c), "workgroups of"),
    "memory": (lambda k, n, c: setattr(k, "shared", k.shared + (64 << 10)) or (n, c), "workgroup memory"),
    "chip": (lambda k, n, c: (n.replace("gfx942", "gfx906"), c), "another chip"),
    "wave": (lambda k, n, c: (re.sub(r"wavefront_size:\s+64", "wavefront_size: 32", n), c), "waves of"),
    "registers": (lambda k, n, c: (re.sub(r"\.vgpr_count:\s+\d+", ".vgpr_count: 513", n), c), "registers"),
    "instruction": (lambda k, n, c: (n, c.replace("s_endpgm", "<unknown>\n s_endpgm", 1)), "does not disassemble"),
    "end": (lambda k, n, c: (n, c.replace("s_endpgm", "s_nop")), "does not disassemble"),
    "barriers": (lambda k, n, c: (n, c.replace("s_barrier", "s_nop")), "lost its barriers"),
    "unit": (lambda k, n, c: (n, c.replace("v_mfma", "v_fma")), "lost its matrix units"),
    "no-unit": (lambda k, n, c: setattr(k, "unit", False) or (n, c), "has matrix units"),
}


def rule(tools, name, scratch):
    units = "unit" in name
    found = compiled(tools, "face-front", "gfx942", scratch, ",precision=f16" if units else "")
    if isinstance(found, harness.Outcome):
        return found
    for kernel in found[0]:  # the first with a barrier between waves, or with a matrix unit
        if kernel.unit if units else kernel.barrier and kernel.threads > 64:
            notes, code = next((n, c) for n, c in found[1] if re.search(rf"\.name:\s+{kernel.name}\n", n))
            if wrong := wrong_with(kernel, "gfx942", notes, code):
                return harness.fail(f"as it is, it {wrong}")
            change, message = PLANTED[name]
            wrong = wrong_with(kernel, "gfx942", *change(kernel, notes, code))
            return harness.ok() if message in wrong else harness.fail(f"the check says: {wrong or 'nothing'}")
    return harness.fail("no such kernel")


def prepare(tools):
    tests = {f"rules-{name}": lambda scratch, n=name: rule(tools, n, scratch) for name in PLANTED}
    for name in shaders.all_models():
        for chip in CHIPS:
            tests[f"kernels-{name}-{chip}"] = lambda scratch, n=name, c=chip: check_model(tools, n, c, scratch)
            if chip in UNITS:
                tests[f"kernels-{name}-{chip}-f16"] = lambda scratch, n=name, c=chip: check_model(tools, n, c, scratch, ",precision=f16")
    if missing := [tool for tool in (READOBJ, OBJDUMP) if shutil.which(tool) is None]:
        tests = {name: lambda scratch: harness.skip(f"no {missing[0]}") for name in tests}
    return tests, harness.hash_of(shaders.HERE / "gpu_hsaco.py", shaders.HERE / "shaders.py", shaders.HERE.parent / "models/catalogue.py")


if __name__ == "__main__":
    harness.run_suite("gpu-hsaco", prepare, lambda: {"llvm": "19"})
