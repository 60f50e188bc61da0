"""The search for sandboxes that have neither ripgrep nor grep: a program for the sandbox's own Python 3.

Kept as text because it runs inside. It writes what `grep -rnHZI` writes, and ends as grep ends: 0 for matches, 1 for
none, 2 for an error. Left out: `.gitignore`, as with grep.
"""

from __future__ import annotations

PROGRAM = r"""
import os, re, sys
pattern, top, context = sys.argv[1], sys.argv[2], int(sys.argv[3])
out = sys.stdout.buffer
try:
    wanted = re.compile(os.fsencode(pattern))
except re.error as error:
    print("regex error: %s" % error)
    sys.exit(2)
if not os.path.exists(top):
    print("%s: No such file or directory" % top)
    sys.exit(2)

def files():
    if not os.path.isdir(top):
        yield top
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            yield os.path.join(folder, name)

def show(path, lines, number, sign):
    out.write(os.fsencode(path) + b"\0%d%s" % (number + 1, sign) + lines[number] + b"\n")

found = False
for path in files():
    try:
        if not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        continue
    if b"\0" in data[:65536]:
        continue
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    shown = 0
    hits = [number for number, line in enumerate(lines) if wanted.search(line)]
    marked = set(hits)
    for hit in hits:
        found = True
        for number in range(max(shown, hit - context), min(len(lines), hit + context + 1)):
            show(path, lines, number, b":" if number in marked else b"-")
            shown = number + 1
sys.exit(0 if found else 1)
"""
