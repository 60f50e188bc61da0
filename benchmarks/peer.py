"""The environment that mini-swe-agent is measured in: of its own, with the versions of `requirements/bench.txt`.

It lies in `$PATCHWRIGHT_CACHE/bench-venv`, or in the project's `.cache/bench-venv`, and is made again when the list
changes. Left out: running it (`peer_loop`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from measuring import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements" / "bench.txt"


def peer_python() -> Path:
    """The Python that has mini-swe-agent; installs it first where that hasn't been done (about 1 GB of downloads)."""
    cache = os.environ.get("PATCHWRIGHT_CACHE")
    venv = (Path(cache) if cache else REPOSITORY / ".cache") / "bench-venv"
    python, mark = venv / "bin" / "python", venv / ".requirements"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return python
    print(f"installing mini-swe-agent into {venv}", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "-qq"]
    subprocess.run([*pip, "install", "--require-hashes", "-r", str(REQUIREMENTS)], check=True)
    mark.write_text(wanted)
    return python


def peer_version() -> str:
    lines = REQUIREMENTS.read_text().splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith("mini-swe-agent=="))
