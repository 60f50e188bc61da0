"""The environments that peers are measured in: of their own, with the versions of `requirements/bench*.txt`.

They lie in `$PATCHWRIGHT_CACHE`, or in the project's `.cache`, as `bench-venv` (mini-swe-agent) and
`bench-sandbox-venv` (SWE-ReX), and are made again when their list changes. Left out: running them (`peer_loop`, `rex`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from measuring import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"


def environment(name: str) -> Path:
    """The Python that has what `requirements/NAME.txt` lists; installs that first where it hasn't been done."""
    listed = REQUIREMENTS / f"{name}.txt"
    cache = os.environ.get("PATCHWRIGHT_CACHE")
    venv = (Path(cache) if cache else REPOSITORY / ".cache") / f"{name}-venv"
    python, mark = venv / "bin" / "python", venv / ".requirements"
    wanted = hashlib.sha256(listed.read_bytes() + sys.version.encode()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return python
    print(f"installing {listed.relative_to(REPOSITORY)} into {venv}", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "-qq"]
    subprocess.run([*pip, "install", "--require-hashes", "-r", str(listed)], check=True)
    mark.write_text(wanted)
    return python


def version(name: str, package: str) -> str:
    """Of a package, as the list has it."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))


def peer_python() -> Path:
    """The Python that has mini-swe-agent (about 1 GB of downloads)."""
    return environment("bench")


def peer_version() -> str:
    return version("bench", "mini-swe-agent")
