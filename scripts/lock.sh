#!/usr/bin/env bash
# Resolves pyproject.toml into requirement lists with hashes. The lists name no index, so any mirror serves them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .venv/bin/uv)
[ -x "$uv" ] || .venv/bin/pip install -q uv
common=(--generate-hashes --no-header --no-annotate --python-version 3.11 --quiet --no-emit-index-url --no-emit-find-links)
"$uv" pip compile "${common[@]}" --extra dev pyproject.toml -o requirements/dev.txt
# torch is left out: its CPU build is not in every index (scripts/setup.sh chooses it).
"$uv" pip compile "${common[@]}" --extra embedded pyproject.toml -c requirements/dev.txt -o requirements/.all.txt
python3 - <<'PY'
import re
from pathlib import Path


def pins(path: Path) -> dict[str, str]:
    """Package name -> its block of lines."""
    return {found[1]: found[0] for found in re.finditer(r"(?m)^([a-z0-9._-]+)==.*(?:\n .*)*", path.read_text())}


here = Path("requirements")
skip = ("torch", "nvidia", "cuda", "triton")
more = pins(here / ".all.txt").items() - pins(here / "dev.txt").items()
(here / "embedded.txt").write_text("\n".join(block for name, block in sorted(more) if not name.startswith(skip)) + "\n")
(here / ".all.txt").unlink()
PY
