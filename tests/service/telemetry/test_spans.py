"""A run's log as spans: which there are, how they nest, that nobody's words are in them, and that ids never change."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

from agent.events import Event, EventType
from service.telemetry import genai
from service.telemetry.ended import ended_of, part_of
from service.telemetry.ids import span_id, trace_id
from service.telemetry.redaction import Redactor
from service.telemetry.run_spans import run_spans
from service.telemetry.traces import Span

SECRET = "a-secret-in-an-answer-of-a-tool"
USAGE = {"prompt": 1000, "cached": 900, "completion": 50, "reasoning": 30}


def log(*events: tuple[EventType, dict[str, Any]]) -> list[Event]:
    return [Event(number, 100.0 + number, kind, data) for number, (kind, data) in enumerate(events)]


def a_turn(number: int, tool: str = "bash") -> list[tuple[EventType, dict[str, Any]]]:
    call = {"turn": number, "call": 0}
    return [
        (EventType.TURN_STARTED, {"turn": number, "prompt": 1000, "max_new_tokens": 4096}),
        (EventType.TURN, {
            "turn": number, "finish": "stop", "reasoning": "private thoughts", "content": f"said {SECRET}",
            "usage": USAGE, "seconds": 1.0,
        }),
        (EventType.CALL_STARTED, {**call, "name": tool, "arguments": {"command": f"echo {SECRET}"}}),
        (EventType.OBSERVATION, {**call, "text": "x" * 4080 + SECRET, "failed": False, "ends_run": False, "facts": {}}),
    ]  # fmt: skip


BEGUN = [
    (EventType.RUN_STARTED, {"base": {"commit": "c", "tree": "t", "notes": []}}),
    (EventType.SANDBOX_OPENED, {"kind": "none", "network": "none"}),
    (EventType.MODEL_CONNECTED, {
        "name": "qwen3.6", "engine": "sglang", "target": "http://me:pw@gpu:30000", "sampling": {"temperature": 0.6},
    }),
]  # fmt: skip
ENDED = [
    (EventType.PATCH, {"files": [["M", "private/name.py"]]}),
    (EventType.CHECK_STARTED, {"command": "private command", "source": "test"}),
    (EventType.CHECK, {
        "kind": "command", "command": "private command", "source": "test", "verdict": "fixed",
        "before": {"end": "exited", "exit_code": 1, "output": "private"},
        "after": {"end": "exited", "exit_code": 0, "output": "private"},
    }),
    (EventType.VERIFIED, {"verified": True}),
    (EventType.RUN_ENDED, {"outcome": "verified", "message": "private"}),
]  # fmt: skip


def spans(*events: tuple[EventType, dict[str, Any]], content: Redactor | None = None) -> list[Span]:
    return list(run_spans("r1", "run-1", log(*events), content))


def test_a_run_has_a_span_and_its_turns_calls_and_checks_are_below_it() -> None:
    found = spans(*BEGUN, *a_turn(0), *ENDED)
    assert [one.name for one in found] == [
        "chat qwen3.6", "execute_tool bash", "check", "verification", "invoke_agent patchwright",
    ]  # fmt: skip
    chat, tool, check, verification, run = found
    assert {chat.parent, tool.parent, verification.parent} == {run.key}
    assert check.parent == verification.key
    assert run.parent == ("work", "r1")
    assert (chat.started, chat.ended, run.started, run.ended) == (103.0, 104.0, 100.0, 111.0)
    expected = {
        genai.OPERATION_NAME: "chat", genai.REQUEST_MODEL: "qwen3.6", genai.PROVIDER_NAME: "sglang",
        genai.USAGE_INPUT: 1000, genai.USAGE_OUTPUT: 50, genai.USAGE_CACHE_READ: 900, genai.USAGE_REASONING: 30,
        genai.RESPONSE_FINISH_REASONS: ["stop"], genai.REQUEST_MAX_TOKENS: 4096, genai.REQUEST_TEMPERATURE: 0.6,
        genai.SERVER_ADDRESS: "gpu", genai.SERVER_PORT: 30000, genai.CONVERSATION_ID: "run-1",
    }  # fmt: skip
    assert expected.items() <= dict(chat.attributes).items()
    assert tool.attributes[genai.TOOL_CALL_ID] == "0.0"
    assert verification.attributes["patchwright.verified"] is True
    assert run.attributes["patchwright.outcome"] == "verified"


def test_no_words_are_in_spans_unless_asked_for_and_then_bounded_and_without_secrets() -> None:
    words = str(spans(*BEGUN, *a_turn(0), *ENDED))
    for one in ("private", SECRET, "echo", "me:pw", "xxx"):
        assert one not in words
    chat, tool, *_ = spans(*BEGUN, *a_turn(0), *ENDED, content=Redactor([SECRET]))
    assert "private thoughts" in str(chat.attributes[genai.OUTPUT_MESSAGES])
    assert "echo [hidden]" in str(tool.attributes[genai.TOOL_CALL_ARGUMENTS])
    result = str(tool.attributes[genai.TOOL_CALL_RESULT])
    assert len(result) < 4110
    assert SECRET[:12] not in result


def test_a_name_of_a_tool_is_the_models_word() -> None:
    _, tool, *_ = spans(*BEGUN, *a_turn(0, "rm -rf <script>"))
    assert tool.attributes[genai.TOOL_NAME] == "unknown"


def test_what_was_cut_off_has_no_span_and_what_was_dropped_says_so() -> None:
    dropped = (EventType.TURN_DROPPED, {"turn": 1, "why": "time limit"})
    begun, more = a_turn(1)[:1], a_turn(2)[:1]
    found = spans(*BEGUN, *begun, *more, dropped)
    assert [(one.name, one.error, one.started) for one in found[:-1]] == [("chat qwen3.6", "dropped", 104.0)]
    assert found[-1].attributes["patchwright.outcome"] == "cut off"
    assert spans() == []


def test_ids_are_made_of_what_spans_are_about() -> None:
    before = spans(*BEGUN, *a_turn(0))
    after = spans(*BEGUN, *a_turn(0), (EventType.RUN_RESUMED, {}), *a_turn(1), *ENDED)
    ids = [span_id(*one.key) for one in after]
    assert len(set(ids)) == len(ids)
    assert {span_id(*one.key) for one in before} <= set(ids)
    assert len(trace_id("r1")) == 32
    assert trace_id("r1") != trace_id("r2")


def test_a_request_has_its_part_of_the_log() -> None:
    follow = (EventType.FOLLOW_UP, {"source": "r2", "text": "", "tree": ""})
    events = log(*BEGUN, *a_turn(0), *ENDED, follow, *a_turn(1), *ENDED)
    first, second = part_of(events, "r1", True), part_of(events, "r2", True)
    assert first + second == events
    assert part_of(events, "r3", False) == []
    one, two = ended_of("run-1", first), ended_of("run-1", second)
    assert one is not None
    assert two is not None
    assert (one.turns, one.prompt, one.cached, one.sandboxes, one.follow_up) == (1, 1000, 900, 1, False)
    assert (two.turns, two.sandboxes, two.follow_up, two.outcome) == (1, 0, True, "verified")
    assert ended_of("run-1", log(*BEGUN)) is None


def test_names_are_those_of_the_conventions() -> None:
    package = "opentelemetry.semconv"
    modules = (
        "_incubating.attributes.gen_ai_attributes", "_incubating.attributes.url_attributes",
        "attributes.error_attributes", "attributes.http_attributes", "attributes.server_attributes",
    )  # fmt: skip
    found = [vars(importlib.import_module(f"{package}.{module}")).values() for module in modules]
    known = {value for values in found for value in values if isinstance(value, str)}
    operations = importlib.import_module(f"{package}._incubating.attributes.gen_ai_attributes").GenAiOperationNameValues
    known |= {one.value for one in operations}
    ours = {name: value for name, value in vars(genai).items() if name.isupper()}
    assert [name for name, value in ours.items() if value not in known and value != "url.template"] == []


def test_without_a_target_nothing_of_opentelemetry_is_loaded() -> None:
    code = (
        "import sys\n"
        "from service.telemetry.redaction import Redactor\n"
        "from service.telemetry.traces import Span, Traces\n"
        "environment = {'OTEL_SDK_DISABLED': 'true', 'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://x'}\n"
        "traces = Traces.open(environment, 'web', Redactor())\n"
        "traces.tell('r1', Span(('a',), None, 'a', 0.0, 1.0))\n"
        "import service.work_process\n"
        "sys.exit(any(name.split('.')[0] in ('opentelemetry', 'prometheus_client') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=240, check=False).returncode == 0
