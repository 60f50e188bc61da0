"""Metrics are what the events say, in the format that Prometheus reads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.events import read_events
from cli.runs import runs
from runtime.metrics import FAMILIES, RunMetrics, host_label

GOLDEN = Path(__file__).parent.parent / "golden"

SAMPLE = re.compile(r'^(patchwright_[a-z_]+)\{([a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\} [0-9.e+-]+$')


def turn(prompt: int, cached: int, **more: Any) -> dict[str, Any]:
    usage = {"prompt": prompt, "cached": cached, "completion": 101, "reasoning": 40, "cost": None}
    prefix = {"prompt": prompt, "cached": cached, "cacheable": cached, "expected": cached, "uncached": {"new": 7}}
    return {"usage": usage, "prefix": prefix, "seconds": 3.0, "first_token": 0.5, **more}


def connected(name: str = "qwen", target: str = "http://host:30000") -> dict[str, Any]:
    return {"name": name, "target": target}


EXPECTED = """\
# HELP patchwright_runs_total Runs that have ended.
# TYPE patchwright_runs_total counter
patchwright_runs_total{model="qwen",host="host:30000",outcome="verified"} 1
# HELP patchwright_turns_total Turns that the model has finished.
# TYPE patchwright_turns_total counter
patchwright_turns_total{model="qwen",host="host:30000"} 2
# HELP patchwright_turns_dropped_total Turns that were cut off by a limit or an error.
# TYPE patchwright_turns_dropped_total counter
patchwright_turns_dropped_total{model="qwen",host="host:30000"} 1
# HELP patchwright_model_retries_total Requests that were tried again.
# TYPE patchwright_model_retries_total counter
patchwright_model_retries_total{model="qwen",host="host:30000"} 1
# HELP patchwright_prompt_tokens_total Tokens of all prompts.
# TYPE patchwright_prompt_tokens_total counter
patchwright_prompt_tokens_total{model="qwen",host="host:30000"} 300
# HELP patchwright_prompt_tokens_cached_total Of these, those that the server said it had cached.
# TYPE patchwright_prompt_tokens_cached_total counter
patchwright_prompt_tokens_cached_total{model="qwen",host="host:30000"} 150
# HELP patchwright_prompt_tokens_computed_total Tokens of prompts that it computed, by reason.
# TYPE patchwright_prompt_tokens_computed_total counter
patchwright_prompt_tokens_computed_total{model="qwen",host="host:30000",reason="new"} 14
# HELP patchwright_prompt_cached_ratio Cached share of the prompts of which the server says it.
# TYPE patchwright_prompt_cached_ratio gauge
patchwright_prompt_cached_ratio{model="qwen",host="host:30000"} 0.5
# HELP patchwright_completion_tokens_total Tokens that the model has written.
# TYPE patchwright_completion_tokens_total counter
patchwright_completion_tokens_total{model="qwen",host="host:30000"} 202
# HELP patchwright_reasoning_tokens_total Of these, tokens of its thinking.
# TYPE patchwright_reasoning_tokens_total counter
patchwright_reasoning_tokens_total{model="qwen",host="host:30000"} 80
# HELP patchwright_cost_dollars_total What the host has charged, as far as prices are known.
# TYPE patchwright_cost_dollars_total counter
patchwright_cost_dollars_total{model="qwen",host="host:30000"} 0.25
"""


def test_the_whole_text_of_a_run() -> None:
    metrics = RunMetrics()
    reader = metrics.reader()
    reader.take("model_connected", connected())
    reader.take("model_retry", {})
    reader.take("turn", turn(100, 0))
    second = turn(200, 150)
    second["usage"]["cost"] = 0.25
    reader.take("turn", second)
    reader.take("turn_dropped", {})
    reader.take("observation", {})
    reader.take("run_ended", {"outcome": "verified"})
    counters, histograms = metrics.text().split("# HELP patchwright_time_to_first_token_seconds")
    assert counters == EXPECTED
    for line in (
        'patchwright_tokens_per_second_bucket{model="qwen",host="host:30000",le="20"} 0',
        'patchwright_tokens_per_second_bucket{model="qwen",host="host:30000",le="40"} 2',
        'patchwright_tokens_per_second_sum{model="qwen",host="host:30000"} 80',
        'patchwright_time_to_first_token_seconds_bucket{model="qwen",host="host:30000",le="0.5"} 2',
        'patchwright_time_to_first_token_seconds_bucket{model="qwen",host="host:30000",le="0.25"} 0',
        'patchwright_turn_seconds_bucket{model="qwen",host="host:30000",le="+Inf"} 2',
        'patchwright_turn_seconds_count{model="qwen",host="host:30000"} 2',
    ):
        assert line in histograms.splitlines()


def test_a_host_that_does_not_say_what_was_cached_has_no_cached_share() -> None:
    metrics = RunMetrics()
    silent = turn(1000, 0)
    silent["prefix"] |= {"cached": None, "uncached": {"host doesn't say": 1000}}
    reader = metrics.reader()
    reader.take("model_connected", connected(target="http://silent:1"))
    reader.take("turn", silent)
    assert "cached_ratio" not in metrics.text() and "cached_total" not in metrics.text()
    reader.take("turn", turn(200, 150))  # one that says it, after all: only its own prompt counts
    assert 'patchwright_prompt_cached_ratio{model="qwen",host="silent:1"} 0.75' in metrics.text()
    assert 'patchwright_prompt_tokens_total{model="qwen",host="silent:1"} 1200' in metrics.text()


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0])
def test_what_is_no_amount_is_not_counted(cost: float) -> None:
    metrics = RunMetrics()
    reader = metrics.reader()
    reader.take("model_connected", connected())
    for said in (cost, 0.5):
        one = turn(100, 50)
        one["usage"]["cost"] = said
        reader.take("turn", {**one, "first_token": cost})
    assert 'patchwright_cost_dollars_total{model="qwen",host="host:30000"} 0.5' in metrics.text()
    for _ in range(2):
        one["usage"]["cost"] = 1.5e308
        reader.take("turn", one)
    assert 'patchwright_cost_dollars_total{model="qwen",host="host:30000"} +Inf' in metrics.text()


def test_runs_on_different_hosts_are_told_apart() -> None:
    metrics = RunMetrics()
    for target in ("http://a:1", "http://b:2", "http://a:1"):
        reader = metrics.reader()
        reader.take("model_connected", connected(target=target))
        reader.take("turn", turn(10, 0))
    assert 'patchwright_turns_total{model="qwen",host="a:1"} 2' in metrics.text()
    assert 'patchwright_turns_total{model="qwen",host="b:2"} 1' in metrics.text()


def test_nothing_gives_nothing() -> None:
    assert RunMetrics().text() == ""


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("http://127.0.0.1:30000", "127.0.0.1:30000"),
        ("sglang:https://user:secret@example.org:8000/v1?key=secret", "example.org:8000"),
        ("https://example.org", "example.org"),
        ("/home/user/checkpoint", "local"),
        ("dashscope:qwen3.6-plus", "dashscope:qwen3.6-plus"),
    ],
)
def test_hosts_are_named_without_secrets(target: str, label: str) -> None:
    assert host_label(target) == label


def test_names_from_elsewhere_are_escaped() -> None:
    metrics = RunMetrics()
    reader = metrics.reader()
    reader.take("model_connected", connected(name='a"b\\c\nd'))
    reader.take("turn_dropped", {})
    (sample,) = (line for line in metrics.text().splitlines() if not line.startswith("#"))
    assert sample == r'patchwright_turns_dropped_total{model="a\"b\\c\nd",host="host:30000"} 1'


def test_every_line_of_real_logs_is_in_the_format() -> None:
    metrics = RunMetrics()
    for name in ("run-1.jsonl", "run-2.jsonl"):
        reader = metrics.reader()
        for event in read_events(GOLDEN / name):
            reader.take(event.type, event.data)
    families = set()
    for line in metrics.text().splitlines():
        if line.startswith("# TYPE "):
            families.add(line.split()[2].removeprefix("patchwright_"))
        elif not line.startswith("# HELP "):
            assert SAMPLE.match(line), line
    assert families < set(FAMILIES)
    assert {"turns_total", "tokens_per_second", "prompt_cached_ratio"} <= families


def test_the_command_writes_a_whole_file_for_a_collector(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / "home" / "runs" / name
        folder.mkdir(parents=True)
        shutil.copy(GOLDEN / "run-2.jsonl", folder / "events.jsonl")
    environment = {"PATCHWRIGHT_HOME": str(tmp_path / "home")}
    shown = CliRunner().invoke(runs, ["metrics"], env=environment)
    assert 'patchwright_turns_total{model="scripted",host="127.0.0.1:30000"} 12' in shown.output
    one = CliRunner().invoke(runs, ["metrics", "one"], env=environment)
    assert 'patchwright_turns_total{model="scripted",host="127.0.0.1:30000"} 6' in one.output
    out = tmp_path / "patchwright.prom"
    assert CliRunner().invoke(runs, ["metrics", "--out", str(out)], env=environment).exit_code == 0
    assert out.read_text() == shown.output
    missing = CliRunner().invoke(runs, ["metrics", "--out", str(tmp_path / "no" / "x.prom")], env=environment)
    assert missing.exit_code == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "patchwright.prom"]
