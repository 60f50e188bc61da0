"""Whole runs in real isolation: to the same patch, killed or not, with nothing left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.runs.harness import FIX, Place, call, fixing_turns, served
from tests.runs.test_resume import kill_after
from tests.sandbox.kinds import ISOLATED, need

pytestmark = pytest.mark.heavy


@pytest.fixture(params=ISOLATED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    need(request.param)
    place = Place(tmp_path, request.param)
    place.make_repo()
    return place


def assert_nothing_left(place: Place) -> None:
    run = place.run_folder.name
    names = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=patchwright.run={run}"], capture_output=True, text=True
    ).stdout
    assert names == ""
    assert subprocess.run(["pgrep", "-f", run], capture_output=True, text=True).stdout == ""


def test_a_run_in_isolation(place: Place) -> None:
    curious = call("bash", command="id -u; env; ls -A / /root; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
    with served([curious, *fixing_turns()]) as model:
        done = place.fix(model.url, MY_SECRET="hunter2", GITHUB_TOKEN="hunter2")
    assert done.code == 0, done.err + done.out[-3000:]
    assert place.patch().endswith(FIX)
    assert "hunter2" not in (place.run_folder / "events.jsonl").read_text()
    assert done.of_type("observation")[0]["text"].splitlines()[1] not in ("0", "")
    assert_nothing_left(place)


@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        pytest.param("turn_started", 3, id="model streaming"),
        pytest.param("call_started", 4, id="tool running"),
        pytest.param("observed", 3, id="between"),
        pytest.param("check_started", 1, id="verifying"),
    ],
)
def test_a_killed_run_goes_on(place: Place, kind: str, nth: int) -> None:
    with served(fixing_turns()) as model:
        kill_after(place, model.url, kind, nth)
        done = place.agent("resume", "last", "--json")
    assert done.code == 0, done.err + done.out[-3000:]
    assert place.patch().endswith(FIX)
    assert_nothing_left(place)


def test_a_dead_sandbox_ends_the_run_and_a_new_one_goes_on(place: Place) -> None:
    suicide = call("bash", command="kill -9 -1; sleep 1; echo alive")
    with served([*fixing_turns()[:3], suicide, *fixing_turns()[3:]]) as model:
        done = place.fix(model.url)
        if done.code == 8:
            assert "sandbox" in done.of_type("run_ended")[0]["outcome"]
            done = place.agent("resume", "last", "--json")
    assert done.code in (0, 8), done.err + done.out[-3000:]
    assert_nothing_left(place)
