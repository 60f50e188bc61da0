"""The event log: whole lines only, one writer, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.events import EventLog, EventLogError, EventType, read_events

GOLDEN = Path(__file__).parent.parent / "golden" / "events.jsonl"


def test_events_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    written = [
        log.append(EventType.PROMPT, ids=[1, 2], messages=[{"role": "user", "content": "ü \ud800 \u2028"}]),
        log.append(EventType.TURN_STARTED, turn=0),
    ]
    log.close()
    read = list(read_events(tmp_path / "events.jsonl"))
    assert [event.seq for event in read] == [0, 1]
    assert read[1] == written[1]
    assert read[0].data["ids"] == [1, 2]


def test_live_events_reach_listeners_and_not_the_file(tmp_path: Path) -> None:
    seen = []
    log = EventLog(tmp_path / "events.jsonl", (seen.append,))
    log.append(EventType.PROGRESS, text="building")
    log.append(EventType.TURN_STARTED, turn=0)
    log.close()
    assert [(event.seq, event.type) for event in seen] == [(-1, "progress"), (0, "turn_started")]
    assert [event.type for event in read_events(tmp_path / "events.jsonl")] == ["turn_started"]


@pytest.mark.parametrize("torn", [b'{"seq":1,"ti', b"\n"[:0] + b"{", "{é".encode()[:-1]])
def test_a_torn_last_line_counts_as_not_written(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(EventType.TURN_STARTED, turn=0)
    log.close()
    with path.open("ab") as file:
        file.write(torn)
    log = EventLog(path)
    log.append(EventType.TURN_STARTED, turn=1)
    log.close()
    assert [event.data["turn"] for event in read_events(path)] == [0, 1]


def test_one_process_has_a_log_open_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run-7" / "events.jsonl"
    path.parent.mkdir()
    holder = EventLog(path)
    with pytest.raises(EventLogError, match="run-7 is open in another process"):
        EventLog(path)
    holder.close()
    EventLog(path).close()


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    script = (
        "import sys; from pathlib import Path; from agent.events import *\n"
        "log = EventLog(Path(sys.argv[1]))\n"
        "print('up', flush=True)\n"
        "while True: log.append(EventType.TURN_STARTED, turn=len(log.events), filler='x' * 3000)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd())
    assert writer.stdout is not None
    writer.stdout.readline()
    while path.stat().st_size < 200_000:
        pass
    writer.kill()
    writer.wait()
    writer.stdout.close()
    log = EventLog(path)
    log.append(EventType.TURN_STARTED, turn=-1)
    log.close()
    events = list(read_events(path))
    assert [event.data["turn"] for event in events[:-1]] == list(range(len(events) - 1))
    assert len(events) > 50


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    script = (
        "import resource, signal, sys; from pathlib import Path; from agent.events import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log = EventLog(Path(sys.argv[1]))\n"
        "log.append(EventType.TURN_STARTED, turn=0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))\n"
        "try: log.append(EventType.PROMPT, ids=[1] * 1000)\n"
        "except OSError as error: print('refused', len(log.events))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert done.stdout == "refused 1\n", done.stderr
    assert [event.data for event in read_events(path)] == [{"turn": 0}]


def test_lines_out_of_order_are_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"seq":0,"time":1,"type":"turn_started","data":{}}\n{"seq":2,"time":1,"type":"turn","data":{}}\n')
    with pytest.raises(EventLogError, match="line 2: event 2, expected 1"):
        list(read_events(path))


def test_logs_of_earlier_versions_stay_readable() -> None:
    events = list(read_events(GOLDEN))
    assert [event.type for event in events][:2] == [EventType.RUN_STARTED, EventType.SANDBOX_OPENED]
    assert json.loads(events[0].to_json()) == json.loads(GOLDEN.read_text().splitlines()[0])
    assert os.linesep == "\n"
