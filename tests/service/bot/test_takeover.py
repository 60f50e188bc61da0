"""The log of a run whose process doesn't let go: waited for, then gone on with in a copy."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.events import EventLog, EventType, read_events
from service.bot.takeover import taken_over


async def test_a_log_that_is_let_go_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    held = EventLog(path)
    held.append(EventType.RUN_STARTED)
    waiting = asyncio.create_task(taken_over(path, patience=60))
    await asyncio.sleep(0)
    held.append(EventType.RUN_ENDED)
    held.close()
    await waiting
    assert list(tmp_path.iterdir()) == [path]
    assert [event.type for event in read_events(path)] == [EventType.RUN_STARTED, EventType.RUN_ENDED]


async def test_what_a_lost_process_writes_later_is_read_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lost = EventLog(path)
    lost.append(EventType.RUN_STARTED)
    await taken_over(path, patience=0)
    mine = EventLog(path)  # nobody holds this one
    lost.append(EventType.RUN_ENDED)
    mine.append(EventType.RUN_RESUMED)
    mine.close()
    lost.close()
    assert [event.type for event in read_events(path)] == [EventType.RUN_STARTED, EventType.RUN_RESUMED]
    (aside,) = tmp_path.glob("events.jsonl.lost-*")
    assert [event.type for event in read_events(aside)] == [EventType.RUN_STARTED, EventType.RUN_ENDED]


async def test_a_torn_line_is_not_taken_along(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lost = EventLog(path)
    lost.append(EventType.RUN_STARTED)
    with path.open("a") as file:
        file.write('{"seq":1,')
    await taken_over(path, patience=0)
    mine = EventLog(path)
    mine.append(EventType.RUN_RESUMED)
    mine.close()
    lost.close()
    assert len(list(read_events(path))) == 2
