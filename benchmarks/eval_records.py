"""Writes `eval_records.json`: what real runs and real test logs say about how much there is to do in an evaluation.

`python benchmarks/eval_records.py FOLDER` with the folder of the shared real cases. From each of its 25 recorded
trajectories: turns, tokens that the model wrote, tokens that it was given, by Qwen3.6's tokenizer. From each of its 86
official harness logs: the seconds that the test runner itself says it took, where it says so. Nothing else of them is
kept. The recordings name no times, so `eval_schedule.py` says at what speed it takes them.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where the project isn't installed

from runtime.qwen_bpe import qwen_tokenizer
from runtime.tokenizer import Tokenizer

RECORDS = Path(__file__).with_name("eval_records.json")
_TOOK = re.compile(
    r"^(?:\x1b\[[0-9;]*m)*=+ .* in ([0-9.]+)(?:s| seconds)\b"  # pytest
    r"|^Ran [0-9]+ tests? in ([0-9.]+)s"  # unittest, Django
    r"|finished in ([0-9.]+) seconds",  # SymPy
    re.MULTILINE,
)


def trajectory(tokenizer: Tokenizer, row: dict[str, Any]) -> dict[str, int]:
    turns = written = given = 0
    for message in row["messages"]:
        text = json.dumps([message.get("content"), message.get("tool_calls")])
        size = len(tokenizer.encode(text))
        if message["role"] == "assistant":
            turns, written = turns + 1, written + size
        else:
            given += size
    return {"turns": turns, "written": written, "given": given + len(tokenizer.encode(json.dumps(row.get("tools"))))}


def test_seconds(logs: Path) -> Iterator[float]:
    with tarfile.open(logs) as archive:
        for member in archive:
            if not member.name.endswith("test_output.txt"):
                continue
            file = archive.extractfile(member)
            found = _TOOK.findall(file.read().decode("utf-8", "replace")) if file else []
            if found:
                yield max(float(next(filter(None, groups))) for groups in found)


def main(shared: Path) -> None:
    tokenizer = qwen_tokenizer()
    trajectories = []
    for name in ("trajectories_bash", "trajectories_str_replace_editor"):
        with lzma.open(shared / f"{name}.jsonl.xz", "rt") as lines:
            trajectories += [trajectory(tokenizer, json.loads(line)) for line in lines]
    seconds = sorted(test_seconds(shared / "official_harness_logs.tar.xz"))
    body = {"trajectories": sorted(trajectories, key=lambda one: one["written"]), "test_seconds": seconds}
    RECORDS.write_text(json.dumps(body, separators=(", ", ": ")).replace("}, {", "},\n {") + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
