#!/usr/bin/env python3
"""In the place of ptxas: the machine code of the mock's devices is the word MOCK and the PTX text. Refuses what has no entry.

    ptxas.py --gpu-name=CHIP --output-file FILE TEXT.ptx
"""
import sys

chip, _, output, source = sys.argv[1:]
text = open(source).read()
if not chip.startswith("--gpu-name=sm_") or ".entry" not in text:
    sys.exit(f"ptxas.py: {source}: no entry for {chip}")
open(output, "w").write("MOCK" + text + "\0")
