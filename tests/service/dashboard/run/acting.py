"""Runs as a log and a repository of kept trees, written event by event, for pages of any shape."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from agent.events import EventLog, EventType

GOLDEN = Path(__file__).with_name("golden.jsonl")
"""A real run of the demo's kind, without its token ids: one file changed, one check that was mended by it."""


class Acting:
    """A run folder in the making."""

    def __init__(self, folder: Path, issue: str = "mean() is too small\n\nIt gives 2.") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.git("init", "--quiet", "--bare", str(folder / "repository.git"))
        self.log = EventLog(folder / "events.jsonl")
        self.now = self.tree({"calc/ops.py": "def mean(values):\n    return 0\n"})
        self.turns = 0
        base = {"commit": "c" * 40, "tree": self.now, "notes": []}
        self.add(EventType.RUN_STARTED, run=folder.name, issue={"text": issue, "source": "the bot"}, base=base)
        self.add(EventType.MODEL_CONNECTED, name="qwen", engine="sglang", version="1", context=262144, notes=[])
        self.add(EventType.SANDBOX_OPENED, kind="docker", image="x", workdir="/w", network="none")

    def add(self, what: EventType, /, **data: Any) -> None:
        self.log.append(what, **data)

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        env = {**os.environ, "GIT_DIR": str(self.folder / "repository.git"), "GIT_CONFIG_GLOBAL": "/dev/null"}
        done = subprocess.run(["git", *arguments], input=stdin, env=env, check=True, capture_output=True)
        return done.stdout.decode()

    def tree(self, files: dict[str, str]) -> str:
        """Of files in the top folder or one below it."""
        folders: dict[str, list[bytes]] = {"": []}
        for name, text in sorted(files.items()):
            blob = self.git("hash-object", "-w", "--stdin", stdin=text.encode("utf-8", "surrogateescape")).strip()
            folder, _, last = name.rpartition("/")
            folders.setdefault(folder, []).append(f"100644 blob {blob}\t{last}".encode())
        for folder, rows in folders.items():
            if folder:
                below = self.git("mktree", "-z", stdin=b"".join(row + b"\0" for row in rows)).strip()
                folders[""].append(f"040000 tree {below}\t{folder}".encode())
        return self.git("mktree", "-z", stdin=b"".join(row + b"\0" for row in folders[""])).strip()

    def turn(self, *calls: tuple[str, dict[str, Any]], thinking: str = "I look.", text: str = "") -> int:
        number, prompt = self.turns, 1000 + 100 * self.turns
        self.turns += 1
        self.add(EventType.TURN_STARTED, turn=number, prompt=prompt, max_new_tokens=100)
        self.add(
            EventType.TURN, turn=number, ids=[], finish="stop", reasoning=thinking, content=text,
            calls=[{"name": name, "arguments": arguments} for name, arguments in calls], problems=[],
            usage={"prompt": prompt, "cached": prompt - 100, "completion": 40, "reasoning": 5, "cost": 0.01},
            seconds=1.5, first_token=0.5,
        )  # fmt: skip
        return number

    def called(self, turn: int, call: int, text: str, tree: str = "", **facts: Any) -> None:
        self.add(EventType.CALL_STARTED, turn=turn, call=call, name="bash", arguments={})
        self.now = tree or self.now
        self.add(
            EventType.OBSERVATION, turn=turn, call=call, text=text, failed=False, ends_run=False, facts=facts,
            tree=self.now, seconds=0.2,
        )  # fmt: skip

    def step(self, command: str = "ls", output: str = "calc", tree: str = "", **more: Any) -> None:
        """A turn with one call of bash, answered."""
        number = self.turn(("bash", {"command": command}), **more)
        self.called(number, 0, output, tree, exit_code=0, end="exited")
        self.add(EventType.OBSERVED, turn=number, ids=[], nudge=None)

    def end(self, path: str = "calc/ops.py", command: str = "make test", summary: str = "The divisor was off.") -> None:
        """It submits; the patch is verified."""
        number = self.turn(("submit", {"summary": summary}))
        self.add(EventType.CALL_STARTED, turn=number, call=0, name="submit", arguments={})
        self.add(
            EventType.OBSERVATION, turn=number, call=0, text="Submitted.", failed=False, ends_run=True,
            facts={"summary": summary}, tree=self.now, seconds=0.1,
        )  # fmt: skip
        self.add(EventType.LOOP_ENDED, end="submitted", message="the model submitted its work", tree=self.now)
        self.add(EventType.PATCH, tree=self.now, bytes=10, files=[["M", path]])
        self.add(EventType.CHECK, kind="apply", passed=True)
        self.add(EventType.CHECK_STARTED, command=command, source="named by the model")
        side = {"end": "exited", "seconds": 0.5, "output": "one failed"}
        self.add(
            EventType.CHECK, kind="command", command=command, source="named by the model", verdict="fixed",
            before={**side, "exit_code": 1}, after={**side, "exit_code": 0},
        )  # fmt: skip
        self.add(EventType.VERIFIED, verified=True, applies=True, verdicts=["fixed"])
        self.add(EventType.RUN_ENDED, outcome="verified", exit_code=0, message="the model submitted its work")

    def add_notes(self, word: str) -> None:
        """Of every kind, and a set-up, in somebody's words."""
        self.add(EventType.MODEL_CONNECTED, name=word, engine=word, version=word, context=1, notes=[word])
        self.add(EventType.SANDBOX_OPENED, kind=word, image=word, workdir=word, network=word)
        self.add(EventType.SANDBOX_DIED, call=word, why=word, replaced=True)
        self.add(EventType.MODEL_RETRY, why=word, wait=1)
        self.add(EventType.TURN_DROPPED, turn=0, ids=[], why=word)
        self.add(EventType.NETWORK, allowed=False, target=word, why=word)

    def close(self) -> None:
        self.log.close()

    def at_even_times(self) -> None:
        """The closed log again, with a second between two events."""
        path = self.folder / "events.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**one, "time": 1_780_000_000 + one["seq"]}) + "\n" for one in records))
