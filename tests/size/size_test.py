#!/usr/bin/env python3
"""Holds the minimal program to its size, and checks that this very binary runs a sound archive and refuses damaged ones.

    size_test.py MINIMAL MAKE_ARCHIVES LIMIT
"""
import os
import subprocess
import sys
import tempfile

COUNT = 200


def main():
    minimal, make, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    size = os.path.getsize(minimal)
    print(f"size of loader + verifier + local-sync, stripped: {size} bytes, limit {limit}, goal 45000")
    problems = [] if size <= limit else [f"{size} bytes exceed {limit}"]
    needed = subprocess.run(["readelf", "-d", minimal], stdout=subprocess.PIPE, check=True, text=True).stdout
    libraries = [line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line]
    print("linked to:", " ".join(libraries))
    if libraries != ["libc.so.6"]:
        problems.append(f"linked to {libraries}, expected libc only")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.ingot")
        subprocess.run([make, path, str(COUNT)], check=True)
        done = subprocess.run([minimal, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        values = [float(line) for line in done.stdout.split()]
        if done.returncode != 0 or values != [2 + i for i in range(16)]:
            problems.append(f"the sound archive: exit {done.returncode}, {values}, {done.stderr}")
        for i in range(COUNT):
            done = subprocess.run([minimal, f"{path}.{i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 1 or not done.stderr.startswith("INGOT_CORRUPT: "):
                problems.append(f"damaged archive {i}: exit {done.returncode}, {done.stderr!r}, expected INGOT_CORRUPT")
    print("\n".join(problems) or f"ran the sound archive, refused {COUNT} damaged ones")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
