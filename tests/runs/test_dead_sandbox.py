"""A sandbox that is killed in mid-run: replaced from the last step without a wasted request, and not for ever."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.revival import MOST
from tests.runs.harness import FIX, Finished, Place, call, fixing_turns, served
from tests.sandbox.kinds import KINDS, need

pytestmark = pytest.mark.heavy

GUEST = b"exec(compile(get("


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    need(request.param)
    place = Place(tmp_path, request.param)
    place.make_repo()
    return place


class Victim:
    """A call that hangs until somebody kills the sandbox around it."""

    def __init__(self) -> None:
        self.seconds = f"58.{uuid.uuid4().int % 10**12}"
        command = f"export LOST=1; echo half >calc/half.py; sleep {self.seconds} & cd tests; sleep {self.seconds}"
        self.turn = call("bash", "I look further.", command=command)

    def kill(self) -> None:
        """Kill -9 the guest, which is what ends a sandbox of any kind; found from the call's own process upwards."""
        pid = self._sleeper()
        while GUEST not in Path(f"/proc/{pid}/cmdline").read_bytes():
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(pid, signal.SIGKILL)

    def _sleeper(self) -> int:
        wanted = f"sleep\0{self.seconds}\0".encode()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if entry.read_bytes() == wanted:
                        return int(entry.parent.name)
                except OSError:
                    continue
            time.sleep(0.05)
        raise AssertionError("the call never ran")


def run_and_kill(place: Place, model: str, victims: Sequence[Victim], first: int) -> Finished:
    """Run `agent fix` and kill the sandbox in the calls from number `first` on, one victim each."""
    process = place.start(*place.fix_arguments(model))
    assert process.stdout is not None
    lines, calls = [], 0
    for line in process.stdout:
        lines.append(line)
        if json.loads(line)["type"] == "call_started":
            if first <= calls < first + len(victims):
                victims[calls - first].kill()
            calls += 1
    _, err = process.communicate(timeout=60)
    return Finished(process.returncode, "".join(lines), err, [json.loads(line) for line in lines])


def texts(done: Finished) -> list[str]:
    return [data["text"] for data in done.of_type("observation")]


def test_a_killed_sandbox_is_replaced_from_the_last_step(place: Place) -> None:
    victim = Victim()
    after = call("bash", command='pwd; echo "lost: [$LOST]"; git status --porcelain; pgrep sleep; true')
    turns: list[Any] = [*fixing_turns()[:3], victim.turn, after, *fixing_turns()[3:]]
    with served(turns) as model:
        done = run_and_kill(place, model.url, [victim], first=3)
    assert done.code == 0, done.err + done.out[-3000:]
    assert len(done.of_type("turn_started")) == len(turns), "no request more than without the death"
    (died,) = done.of_type("sandbox_died")
    assert died["replaced"] and died["call"] == "bash"
    told, seen = texts(done)[3:5]
    assert told.startswith("Error: the machine that the commands run on ended during this call")
    assert "lost: []" in seen and "M calc/ops.py" in seen and "half.py" not in seen
    assert place.patch().endswith(FIX) and "half" not in place.patch()


def test_one_that_dies_again_and_again_ends_the_run_with_its_patch(place: Place) -> None:
    victims = [Victim() for _ in range(MOST + 1)]
    turns: list[Any] = [*fixing_turns()[:3], *(victim.turn for victim in victims), *fixing_turns()[3:]]
    with served(turns) as model:
        done = run_and_kill(place, model.url, victims, first=3)
        assert done.code == 8, done.err + done.out[-3000:]
        assert len(done.of_type("turn_started")) == 3 + len(victims), "nothing is asked of the model after the end"
        (ended,) = done.of_type("run_ended")
        assert ended["outcome"] == "sandbox failed"
        assert f"the sandbox died {MOST + 1} times, last in a call of bash" in ended["message"]
        assert place.patch().endswith(FIX)
        assert [data["replaced"] for data in done.of_type("sandbox_died")] == [True] * MOST + [False]
        goes_on = place.agent("resume", "last", "--json")
    assert goes_on.code == 0, goes_on.err + goes_on.out[-3000:]
    assert place.patch().endswith(FIX)
