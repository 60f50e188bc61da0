"""Whole runs on a model server that is in trouble: the run waits, recovers or ends with a name, and loses no token."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.admission import Need
from runtime.admission_ledger import FileRegister
from runtime.qwen_bpe import qwen_tokenizer
from tests.runs.harness import FIX, Finished, Place, fixing_turns

pytestmark = pytest.mark.heavy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.make_repo()
    return place


class ServerProcess:
    """`agent model script` as a process of its own on a port that stays, so that it can be killed and come back."""

    def __init__(self, folder: Path, script: Any) -> None:
        self.file = folder / "script.json"
        self.file.write_text(json.dumps(script if isinstance(script, dict) else {"turns": script}))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "cli.main", "model", "script", str(self.file), "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert "listening" in self.process.stdout.readline()

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@contextmanager
def running(folder: Path, script: Any) -> Iterator[ServerProcess]:
    server = ServerProcess(folder, script)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def slow(turns: list[dict[str, Any]], seconds: float = 0.02) -> list[dict[str, Any]]:
    return [{**turn, "faults": [{"kind": "slow", "seconds": seconds, "times": "always"}]} for turn in turns]


def with_fault(turns: list[dict[str, Any]], index: int, **fault: Any) -> list[dict[str, Any]]:
    turns[index]["faults"] = [fault]
    return turns


def written(turns: list[dict[str, Any]]) -> list[list[int]]:
    """The ids of scripted turns, as a server in good health sends them."""
    from runtime.models.script_file import parse_script
    from runtime.models.scripted_engine import turn_text

    tokenizer, parsed = qwen_tokenizer(), parse_script(turns).conversations[0].turns
    end = tokenizer.special("<|im_end|>")
    return [[*tokenizer.encode_with_specials(turn_text(turn, thinking=True)), end] for turn in parsed]


def ids_of(events: list[dict[str, Any]]) -> list[list[int]]:
    return [event["data"]["ids"] for event in events if event["type"] == "turn"]


def log_of(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place.run_folder / "events.jsonl").read_text().splitlines()]


def disturbed(place: Place, server: ServerProcess, *, away: float, options: tuple[str, ...] = ()) -> Finished:
    """A run whose server is killed in the middle of the third turn and comes back `away` seconds later."""
    process = place.start(*place.fix_arguments(server.url, *options))
    assert process.stdout is not None
    lines: list[str] = []
    started = 0
    for line in process.stdout:
        lines.append(line)
        begins = json.loads(line)["type"] == "turn_started"
        started += begins
        if begins and started == 3:
            time.sleep(0.4)  # some tokens of the turn have come
            server.kill()
            time.sleep(away)
            server.start()
    code = process.wait(120)
    err = process.stderr.read() if process.stderr else ""
    return Finished(code, "".join(lines), err, [json.loads(line) for line in lines if line.startswith('{"seq"')])


def test_a_server_that_is_killed_in_mid_turn_and_restarted(place: Place, tmp_path: Path) -> None:
    turns = slow(fixing_turns())
    with running(tmp_path, turns) as server:
        done = disturbed(place, server, away=1.0)
    assert done.code == 0, done.err + done.out[-3000:]
    retries = done.of_type("model_retry")
    assert retries
    assert max(retry["kept"] for retry in retries) > 0  # the turn went on behind what had come
    assert ids_of(done.events) == written(fixing_turns())
    assert done.of_type("turn_dropped") == []
    assert place.patch().endswith(FIX)


def test_a_server_that_stays_away_ends_the_run_softly_and_resume_finishes_it(place: Place, tmp_path: Path) -> None:
    with running(tmp_path, slow(fixing_turns())) as server:
        process = place.start(*place.fix_arguments(server.url, "--model-absence", "1"))
        assert process.stdout is not None
        started = 0
        for line in process.stdout:
            started += json.loads(line)["type"] == "turn_started"
            if started == 3 and server.process is not None:
                time.sleep(0.4)
                server.kill()
        assert process.wait(60) == 7
        ended = log_of(place)[-1]["data"]
        assert ended["outcome"] == "model failed"
        assert server.url in ended["message"]
        server.start()
        done = place.agent("resume", "last", "--json")
    assert done.code == 0, done.err + done.out[-2000:]
    assert ids_of(log_of(place)) == written(fixing_turns())


def test_a_server_that_fails_now_and_then(place: Place, tmp_path: Path) -> None:
    turns = fixing_turns()
    turns[0]["faults"] = [{"kind": "http", "status": 500, "times": 2}]
    turns[2]["faults"] = [{"kind": "cut", "tokens": 5}, {"kind": "cut", "tokens": 3}, {"kind": "http", "status": 502}]
    with running(tmp_path, turns) as server:
        done = place.fix(server.url)
    assert done.code == 0, done.err + done.out[-2000:]
    assert ids_of(done.events) == written(fixing_turns())
    assert [retry["kept"] for retry in done.of_type("model_retry")] == [0, 0, 5, 8, 8]


def test_a_server_that_only_fails(place: Place, tmp_path: Path) -> None:
    with running(tmp_path, with_fault(fixing_turns(), 1, kind="http", status=500, times="always")) as server:
        done = place.fix(server.url, "--model-absence", "1")
    assert done.code == 7
    assert done.of_type("loop_ended")[0]["end"] == "model failed"
    assert "answered 500" in done.of_type("run_ended")[0]["message"]
    assert len(ids_of(done.events)) == 1


def test_a_server_that_hangs_is_asked_again(place: Place, tmp_path: Path) -> None:
    with running(tmp_path, with_fault(fixing_turns(), 2, kind="stall", tokens=6, seconds=600)) as server:
        done = place.fix(server.url, "--model-silence", "1")
    assert done.code == 0, done.err + done.out[-2000:]
    (retry,) = done.of_type("model_retry")
    assert (retry["kept"], "sent nothing for 1 s" in retry["why"]) == (6, True)
    assert ids_of(done.events) == written(fixing_turns())


def test_a_full_queue_is_waited_for(place: Place, tmp_path: Path) -> None:
    full = {"kind": "http", "status": 503, "message": "The request queue is full.", "retry_after": 1, "times": 2}
    with running(tmp_path, with_fault(fixing_turns(), 1, **full)) as server:
        done = place.fix(server.url)
    assert done.code == 0, done.err + done.out[-2000:]
    waits = [retry["wait"] for retry in done.of_type("model_retry")]
    assert len(waits) == 2
    assert all(wait >= 1 for wait in waits)
    assert ids_of(done.events) == written(fixing_turns())


def test_a_queue_that_stays_full(place: Place, tmp_path: Path) -> None:
    full = {"kind": "http", "status": 503, "message": "The request queue is full.", "times": "always"}
    with running(tmp_path, with_fault(fixing_turns(), 1, **full)) as server:
        done = place.fix(server.url, "--model-absence", "1")
    assert done.code == 7
    assert "The request queue is full" in done.of_type("run_ended")[0]["message"]


def test_a_context_that_is_full(place: Place, tmp_path: Path) -> None:
    with running(tmp_path, {"turns": fixing_turns(), "context_length": 2600}) as server:
        done = place.fix(server.url)
    assert done.code == 5, done.err + done.out[-2000:]
    (ended,) = done.of_type("loop_ended")
    assert (ended["end"], "of 2600" in ended["message"]) == ("context full", True)
    assert ids_of(done.events) == written(fixing_turns())[: len(ids_of(done.events))]


def test_a_turn_that_runs_into_its_length_is_closed_by_us_and_its_call_is_not_run(place: Place, tmp_path: Path) -> None:
    turns = fixing_turns()
    cut = {**turns[2], "faults": [{"kind": "length", "tokens": 30, "times": "always"}]}
    with running(tmp_path, [*turns[:2], cut, *turns[2:]]) as server:
        done = place.fix(server.url)
    assert done.code == 0, done.err + done.out[-2000:]
    turn = done.of_type("turn")[2]
    assert (turn["finish"], turn["calls"]) == ("length", [])
    assert turn["ids"] == [*written(turns)[2][:30], qwen_tokenizer().special("<|im_end|>")]
    nudge = done.of_type("observed")[2]["nudge"]
    assert "was cut off before its end" in nudge
    assert "smaller steps" in nudge
    assert place.patch().endswith(FIX)


def test_a_budget_for_thinking_closes_it_in_mid_stream(place: Place, tmp_path: Path) -> None:
    turns = fixing_turns()
    turns[0]["reasoning"] = "Let me think about that once more. " * 40
    with running(tmp_path, turns) as server:
        done = place.fix(server.url, PATCHWRIGHT_THINKING_BUDGET="20")
    first = next(event["data"]["ids"] for event in done.events if event["type"] in ("turn", "turn_dropped"))
    assert first[:20] == written(turns)[0][:20]
    closing = first.index(qwen_tokenizer().special("</think>"))
    assert 20 < closing < 60
    assert done.of_type("model_connected")[0]["sampling"]["thinking_budget"] == 20


def test_runs_that_do_not_fit_beside_each_other_go_one_after_the_other(place: Place, tmp_path: Path) -> None:
    script = {"turns": slow(fixing_turns(), 0.01), "pool_tokens": 100_000}
    with running(tmp_path, script) as server:
        first = place.start(*place.fix_arguments(server.url))
        assert first.stdout is not None
        for line in first.stdout:
            if json.loads(line)["type"] == "turn_started":
                break
        second = place.fix(server.url)
        first.stdout.read()
        assert first.wait(60) == 0
    assert second.code == 0, second.err
    waits = [json.loads(line)["data"]["text"] for line in second.out.splitlines() if '"waiting for' in line]
    assert waits == [
        "waiting for 65536 tokens of room in the model server's cache, next in line: 1 live run holds 65536 of 100000"
    ]


@pytest.mark.parametrize("what", ["tokenizer", "template"])
def test_a_server_that_reads_otherwise_gets_messages_and_the_run_still_ends(
    place: Place, tmp_path: Path, what: str
) -> None:
    with running(tmp_path, {"turns": fixing_turns(), what: "other"}) as server:
        done = place.fix(server.url)
        ids_anyway = place.agent("model", "check", server.url)
    assert done.code == 0, done.err + done.out[-3000:]
    (connected,) = done.of_type("model_connected")
    assert "exact ids" not in connected["features"]
    (note,) = [note for note in connected["notes"] if f"The served {what} isn't the one" in note]
    assert "messages" in note
    assert place.patch().endswith(FIX)
    assert ids_anyway.code == 3
    (row,) = [line for line in ids_anyway.out.splitlines() if line.startswith(f"{what} ")]
    assert "differs" in row


def test_the_time_limit_ends_the_wait_for_room_and_resume_goes_on(tmp_path: Path, place: Place) -> None:
    script = {"turns": fixing_turns(), "pool_tokens": 100_000, "context_length": 90_000}
    with running(tmp_path, script) as server:
        others = FileRegister(place.folder / "home" / "servers", server.url)
        number = others.join(Need(60_000))
        assert others.enter(number, lambda _: True) is None
        done = place.fix(server.url, "--timeout", "4")
        assert done.code == 5, done.err
        assert done.of_type("loop_ended")[0]["end"] == "time limit"
        assert "waited for room" in done.of_type("run_ended")[0]["message"]
        assert done.of_type("turn") == []
        others.leave(number)
        again = place.agent("resume", place.run_folder.name, "--timeout", "600")
        assert again.code == 0, again.err
        assert FIX in place.patch()


@pytest.mark.parametrize("url", ["http://user:hunter2@127.0.0.1:9", "chat:http://127.0.0.1:9/?key=hunter2#m"])
def test_a_secret_in_the_models_address_gets_into_no_log(place: Place, url: str) -> None:
    done = place.fix(url)
    assert done.code == 6
    assert "a key goes into PATCHWRIGHT_API_KEY" in done.err + done.out
    assert "hunter2" not in done.err + done.out
    assert not list((place.folder / "home" / "runs").glob("*"))
