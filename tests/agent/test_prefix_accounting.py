"""A run's log tells how each prompt fared, and a resumed run goes on with the same expectations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.events import Event, EventLog, EventType, read_events
from agent.limits import Limits
from agent.session import Session
from agent.usage import RunUsage, turn_usage, usage_of
from cli.runs import runs
from cli.usage import usage_lines
from cli.view import Totals, describe
from runtime.models.base import Chunk, FinishReason, Usage
from runtime.prefix import CacheRules, PrefixUse, Reason, ServerCache, Strategy
from runtime.qwen_bpe import qwen_tokenizer
from runtime.tool_calls import parse

GOLDEN = Path(__file__).parent.parent / "golden"
RULES = CacheRules(Strategy.EXTRA_BUFFER, decode_interval=64)


def connected(log: EventLog, *, target: str = "http://127.0.0.1:1", cache: dict[str, Any] | None = None) -> Event:
    rules = {"strategy": "extra_buffer", "page": 1, "prefill_grid": 64, "decode_interval": 64, "prefill_chunk": None}
    return log.append(
        EventType.MODEL_CONNECTED,
        target=target,
        name="qwen",
        features=["cached tokens", "exact ids"],
        cache=cache or rules,
    )


def open_session(folder: Path) -> Session:
    """A session over the log in the folder, as a new process would open it."""
    log = EventLog(folder / "events.jsonl")
    if not log.events:
        connected(log)
    session = Session(log, qwen_tokenizer(), Limits(), "tree")
    session.replay()
    return session


def write_turn(session: Session, server: ServerCache, text: str, finish: FinishReason = FinishReason.STOP) -> PrefixUse:
    """The server answers with `text`, the session records it, and a tool answers."""
    ids = session.tokenizer.encode_with_specials(text + ("<|im_end|>" if finish is FinishReason.STOP else ""))
    prompt = session.transcript.ids
    cached = server.prefill(prompt).tokens
    server.finish(prompt, ids)
    usage = Usage(len(prompt), cached, len(ids), reasoning_tokens=3, cost=0.5)
    session.record_turn(ids, parse(text, []), Chunk((), finish, usage), 2.0, first_token=0.25)
    event = session.log.events[-1]
    session.record_observed(["word " * 70], nudge=True)
    return turn_usage(event.data).prefix


def start(folder: Path) -> tuple[Session, ServerCache]:
    session = open_session(folder)
    session.record_prompt([{"role": "user", "content": "many words " * 200}], [])
    return session, ServerCache(RULES)


def test_each_turn_tells_how_its_prompt_fared(tmp_path: Path) -> None:
    session, server = start(tmp_path)
    uses = [write_turn(session, server, "thoughts " * 40 + "\n</think>\n\nDone.") for _ in range(4)]
    assert uses[0].uncached == {Reason.FIRST_TURN: uses[0].prompt}
    for use in uses[1:]:
        assert use.cached == use.expected
        assert 0 < (use.cached or 0) <= use.cacheable < use.prompt
        assert set(use.uncached) <= {Reason.NEW, Reason.GRANULARITY}
    data = session.log.of_type(EventType.TURN)[-1].data
    assert (data["first_token"], data["seconds"]) == (0.25, 2.0)
    assert data["usage"] == {
        "prompt": uses[3].prompt,
        "cached": uses[3].cached,
        "completion": len(data["ids"]),
        "reasoning": 3,
        "cost": 0.5,
    }
    assert session.spent.cost == 2.0


def test_a_resumed_run_expects_what_the_server_has(tmp_path: Path) -> None:
    session, server = start(tmp_path)
    write_turn(session, server, "thoughts " * 90 + "\n</think>\n\nDone.")
    write_turn(session, server, "cut off " * 90, FinishReason.LENGTH)
    session.log.close()
    resumed = open_session(tmp_path)
    connected(resumed.log)  # the same host, connected to again
    use = write_turn(resumed, server, "more " * 30 + "\n</think>\n\nDone.")
    assert (use.cached, Reason.LOST in use.uncached) == (use.expected, False)
    assert (use.cached or 0) > 500
    resumed.log.close()


def test_another_host_has_nothing_of_the_run(tmp_path: Path) -> None:
    session, server = start(tmp_path)
    write_turn(session, server, "thoughts " * 90 + "\n</think>\n\nDone.")
    connected(session.log, target="http://elsewhere")
    session.log.close()
    use = write_turn(open_session(tmp_path), ServerCache(RULES), "on\n</think>\n\nDone.")
    assert use.uncached == {Reason.FIRST_TURN: use.prompt}


def test_a_restarted_server_is_named_in_the_view_and_in_the_table(tmp_path: Path) -> None:
    session, server = start(tmp_path)
    write_turn(session, server, "thoughts " * 90 + "\n</think>\n\nDone.")
    server.clear()
    use = write_turn(session, server, "on\n</think>\n\nDone.")
    event = session.log.of_type(EventType.TURN)[-1]
    shown = [line for style, line in describe(event, Totals()) if style == "note"]
    (line,) = shown
    assert line.startswith(f"not cached: {use.uncached[Reason.LOST]} tokens again: ")
    assert "evicted, or the server was restarted" in line
    table = list(usage_lines(usage_of(session.log.events)))
    assert "evicted, or the server was restarted" in table[2]
    assert f"{use.uncached[Reason.LOST]} lost by eviction or a restart" in table[-1]


@pytest.mark.parametrize("name", ["run-1.jsonl", "run-2.jsonl"])
def test_logs_of_earlier_versions_are_replayed_and_summed_up(tmp_path: Path, name: str) -> None:
    """1: before prefix accounting. 2: with it."""
    shutil.copy(GOLDEN / name, tmp_path / "events.jsonl")
    session = open_session(tmp_path)
    turns = session.log.of_type(EventType.TURN)
    assert session.spent.steps == len(turns) == 6
    known = sum(len(event.data.get("ids", [])) for event in session.log.events)
    assert len(session.transcript.ids) == known
    expected = session.prefix.expect(session.transcript.ids)
    assert expected.cacheable == known - 1
    usage = usage_of(session.log.events)
    assert usage.prompt == sum(event.data["usage"]["prompt"] for event in turns)
    assert usage.cached == sum(event.data["usage"]["cached"] for event in turns)
    assert sum(usage.uncached.values()) == usage.prompt - (usage.cached or 0)
    session.log.close()


TABLE = """\
step  prompt  cached  share  new  again  written  seconds  first
   1    1640       0   0.0%    -      -       43      0.0      -
   2    1749    1683  96.2%    -      -       45      0.0      -
in all: 3389 prompt tokens, 49.7% cached, 88 written"""


def test_the_table_of_a_log_without_accounting() -> None:
    usage = usage_of(read_events(GOLDEN / "run-1.jsonl"))
    assert "\n".join(usage_lines(RunUsage(usage.turns[:2]))) == TABLE


def test_no_turns_no_table() -> None:
    assert list(usage_lines(RunUsage(()))) == []


def show(home: Path, *options: str) -> str:
    folder = home / "runs" / "20261123-120000-abcd"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / "run-2.jsonl", folder / "events.jsonl")
    done = CliRunner().invoke(runs, ["show", "abcd", *options], env={"PATCHWRIGHT_HOME": str(home)})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_run_is_shown_with_its_tokens_at_the_end(tmp_path: Path) -> None:
    shown = show(tmp_path).splitlines()
    assert shown[0].startswith("run 2026")
    usage = usage_of(read_events(GOLDEN / "run-2.jsonl"))
    assert shown[-9:] == list(usage_lines(usage))
    assert show(tmp_path, "--usage").splitlines() == list(usage_lines(usage))


def test_the_tokens_as_json_for_programs(tmp_path: Path) -> None:
    told = json.loads(show(tmp_path, "--usage", "--json"))
    assert set(told) == {"run", "turns", "totals"}
    assert set(told["totals"]) == {"prompt", "cached", "completion", "reasoning", "uncached"}
    assert sum(told["totals"]["uncached"].values()) == told["totals"]["prompt"] - told["totals"]["cached"]
    first, second, *_ = told["turns"]
    assert first["uncached"] == {"first turn": first["prompt"]}
    assert second["uncached"] == {"new": 67, "checkpoint granularity": 79}
    assert second["cached"] == second["expected"] == second["prompt"] - 67 - 79
    assert second["first_token"] < second["seconds"]
    events = [json.loads(line)["type"] for line in show(tmp_path, "--json").splitlines()]
    assert (events[0], events[-1]) == ("run_started", "run_ended")
