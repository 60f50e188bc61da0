"""What real tools in a real sandbox answer to the scripted turns: `python examples/demo/record.py KIND...`.

The answers are kept in `recordings.json`, one per kind of sandbox, and the demo model is trained on them. When a
prompt, a tool's spec or what a tool answers changes, the fingerprint that lies beside the checkpoint no longer
fits, a test says so, and both steps are to be done again: record, then `train`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent import checkout, machine
from agent.config import RepositoryConfig
from agent.runs import RunFolder
from agent.worktree import Worktree
from examples.demo.prepare import prepare
from examples.demo.script import TURNS, prompt, specs
from examples.demo.vary import Recording, normal
from runtime.chat import render
from sandbox.base import Sandbox
from tools import standard_tools
from tools.base import ToolContext, tool_name

FILE = Path(__file__).parent / "recordings.json"
FINGERPRINT = "trained_on.json"  # lies beside the checkpoint
_ANY_WORKDIR = "/workspace"


def load() -> list[Recording]:
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    return [Recording(each["workdir"], tuple(each["observations"])) for each in kept.values()]


def fingerprint() -> dict[str, str]:
    """What the model depends on: the text before its first turn, its turns, and what it was told."""
    parts = {
        "prompt": render(prompt(_ANY_WORKDIR), specs()),
        "turns": "\0".join(turn.text for turn in TURNS),
        "answers": "\0\0".join("\0".join(normal(each)) for each in load()),
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}


async def record(kind: str) -> Recording:
    """Run the scripted calls with the product's tools in a fresh sandbox. Raises SandboxError.

    The last call ends the run, so its answer is never told to the model and isn't kept.
    """
    with tempfile.TemporaryDirectory(prefix="patchwright-demo-") as scratch:
        source, run = Path(scratch) / "paging", RunFolder(Path(scratch) / "demo")
        prepare(source)
        run.path.mkdir()
        base = await checkout.take_base(run.repository, str(source), None)
        place = await machine.prepare(kind, None, RepositoryConfig(), run, print, may_build=True)
        sandbox = await place.open()
        try:
            worktree = Worktree(sandbox, run.repository, base)
            await worktree.fill()
            context = ToolContext(sandbox, run.blobs, worktree.diff)
            return Recording(sandbox.workdir, tuple(await _answers(context, sandbox)))
        finally:
            await sandbox.close()


async def _answers(context: ToolContext, sandbox: Sandbox) -> list[str]:
    tools = {tool_name(tool): tool for tool in standard_tools()}
    answers = []
    for number, turn in enumerate(TURNS):
        answer = await tools[turn.tool](context, turn.arguments)
        is_last = number == len(TURNS) - 1
        if answer.failed or answer.ends_run != is_last:
            raise SystemExit(f"turn {number} ({turn.tool}) went wrong in {sandbox.kind}:\n{answer.text}")
        if not is_last:
            answers.append(answer.text)
    return answers


def main(kinds: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Record what the tools answer to the demo's scripted turns.")
    parser.add_argument("kinds", nargs="+", choices=("docker", "bubblewrap", "none"), help="kinds of sandbox")
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for kind in parser.parse_args(kinds).kinds:
        kept[kind] = asdict(asyncio.run(record(kind)))
        print(f"recorded {kind}: {len(kept[kind]['observations'])} answers")
    FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
