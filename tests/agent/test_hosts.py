"""How a run asks its model: presets, what goes before them, what the log keeps of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.ends import End, LoopEnded, Outcome, RunProblem
from agent.events import EventLog, EventType
from agent.hosts import Host, reach, room, sampling_for
from agent.limits import Limits, Spent, check, warning
from agent.request import FixRequest, Generation, Patience
from runtime.models.base import Feature, HostFacts, Pools, RequestOptions, Sampling
from runtime.models.scripted import ScriptedServer

UNKNOWN = "somebody's model"


def log_in(folder: Path, name: str = "20260101-000000-abcd") -> EventLog:
    (folder / name).mkdir(parents=True, exist_ok=True)
    return EventLog(folder / name / "events.jsonl")


def test_presets_are_those_of_the_card_and_never_greedy() -> None:
    for name in (UNKNOWN, "Qwen/Qwen3.6-27B-FP8", "qwen3.6-plus"):
        presets = {preset: sampling_for(Generation(preset), name) for preset in ("coding", "thinking", "instruct")}
        assert all(sampling.temperature > 0 for sampling in presets.values())
        assert (presets["coding"].temperature, presets["thinking"].temperature) == (0.6, 1.0)
        assert (presets["instruct"].temperature, presets["instruct"].top_p) == (0.7, 0.8)


def test_what_the_user_sets_goes_before_the_preset() -> None:
    wish = Generation("thinking", temperature=0.0, seed=3, thinking_budget=500)
    sampling = sampling_for(wish, UNKNOWN)
    assert (sampling.temperature, sampling.seed, sampling.thinking_budget) == (0.0, 3, 500)
    assert sampling.top_p == sampling_for(Generation("thinking"), UNKNOWN).top_p


async def test_a_run_asks_with_its_own_key_and_the_log_tells_what_was_found(tmp_path: Path) -> None:
    async with ScriptedServer([{"text": "Done."}]) as server:
        log = log_in(tmp_path)
        request = FixRequest("r", "i", server.url, generation=Generation("thinking", priority=4))
        host = await reach(request, log)
        assert host.options == RequestOptions(routing_key=log.run_id, priority=4)
        await host.model.close()
    data = log.of_type(EventType.MODEL_CONNECTED)[0].data
    assert (data["name"], data["context"]) == ("scripted", 262_144)
    assert Sampling(**data["sampling"]) == host.sampling
    log.close()


async def test_a_resumed_run_samples_as_it_began_unless_the_model_is_another(tmp_path: Path) -> None:
    async with ScriptedServer([{"text": "Done."}]) as server, ScriptedServer([{"text": "Done."}]) as other:
        log = log_in(tmp_path)
        request = FixRequest("r", "i", server.url)
        began = replace(Sampling(), temperature=0.123)
        log.append(EventType.MODEL_CONNECTED, target=server.url, sampling={"temperature": 0.123})
        again = await reach(request, log)
        elsewhere = await reach(replace(request, model=other.url), log)
        await again.model.close()
        await elsewhere.model.close()
        log.close()
    assert again.sampling == began
    assert elsewhere.sampling == sampling_for(Generation(), "scripted")


async def test_no_model_is_a_named_end(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    with pytest.raises(RunProblem) as caught:
        await reach(FixRequest("r", "i", "http://127.0.0.1:9"), log)
    assert caught.value.outcome is Outcome.MODEL
    assert log.of_type(EventType.MODEL_CONNECTED) == []
    log.close()


class Bare:
    context_length = 262_144

    def __init__(self, *features: Feature, pools: Pools | None = None) -> None:
        self.facts = HostFacts("any", features=frozenset(features), pools=pools or Pools())


async def test_a_run_waits_for_room_on_its_server_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_HOME", str(tmp_path))
    small = Host(Bare(pools=Pools(kv_tokens=100_000)), Sampling(), RequestOptions(), True)  # type: ignore[arg-type]
    first, second = log_in(tmp_path, "first"), log_in(tmp_path, "second")
    told: list[str] = []
    order: list[str] = []

    async def run_second() -> None:
        async with room(small, "http://gpu:1", second, told.append):
            order.append("second is in")

    async with room(small, "http://gpu:1", first, told.append):
        waiting = asyncio.create_task(run_second())
        while not told:
            await asyncio.sleep(0.01)
        async with room(small, "http://other:1", second, told.append):
            order.append("first is out")  # another server is another line
    await waiting
    assert order == ["first is out", "second is in"]
    assert told == [
        "waiting for 65536 tokens of room in the model server's cache, next in line: 1 live run holds 65536 of 100000"
    ]
    first.close()
    second.close()


async def test_the_time_limit_holds_in_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_HOME", str(tmp_path))
    small = Host(Bare(pools=Pools(kv_tokens=100_000)), Sampling(), RequestOptions(), True)  # type: ignore[arg-type]
    first, second = log_in(tmp_path, "first"), log_in(tmp_path, "second")
    second.append(EventType.OBSERVED, spent=99.8)  # by an earlier part of the run
    told: list[str] = []
    async with room(small, "http://gpu:1", first, told.append):
        started = asyncio.get_running_loop().time()
        with pytest.raises(LoopEnded, match="time limit came while the run waited for room") as caught:
            async with room(small, "http://gpu:1", second, told.append, Limits(seconds=100.0)):
                pass
        assert caught.value.end is End.TIME
        assert asyncio.get_running_loop().time() - started < 20
        with pytest.raises(LoopEnded):  # nothing was left in the line
            async with room(small, "http://gpu:1", second, told.append, Limits(seconds=100.0)):
                pass
    async with room(small, "http://gpu:1", second, told.append, Limits(seconds=100.0)):
        pass
    assert [text.partition(":")[0].endswith("next in line") for text in told] == [True, True]
    first.close()
    second.close()


def test_calls_are_constrained_on_request_where_the_host_can() -> None:
    specs = [{"type": "function", "function": {"name": "bash"}}]
    for features, wanted, expected in (
        ([Feature.CONSTRAINED], True, tuple(specs)),
        ([Feature.CONSTRAINED], False, ()),
        ([], True, ()),
    ):
        host = Host(Bare(*features), Sampling(), RequestOptions("key"), True)  # type: ignore[arg-type]
        options = host.constrained_to(specs, wanted)
        assert (options.constrain_to, options.routing_key) == (expected, "key")


def test_a_request_survives_its_log() -> None:
    request = FixRequest(
        "r", "i", "m", limits=Limits(cost=2.5), generation=Generation("instruct", 0.2, 1, 99, True, 3),
        patience=Patience(5.0, 6.0),
    )  # fmt: skip
    assert FixRequest.from_json(request.to_json()) == request


def test_a_request_from_before_there_were_presets_can_be_resumed() -> None:
    data = FixRequest("r", "i", "m").to_json()
    del data["generation"], data["patience"], data["limits"]["cost"]
    data["sampling"] = {"temperature": 0.9, "seed": 7, "top_p": 0.95}
    assert FixRequest.from_json(data).generation == Generation(temperature=0.9, seed=7)


def test_money_is_a_limit_too() -> None:
    limits = Limits(cost=1.0)
    check(limits, Spent(cost=0.99))
    assert "budget is nearly used up" in (warning(limits, Spent(cost=0.95)) or "")
    assert warning(limits, Spent(cost=0.5)) is None
    with pytest.raises(LoopEnded, match=r"cost \$1\.20") as caught:
        check(limits, Spent(cost=1.2))
    assert caught.value.end is End.COST
    check(Limits(), Spent(cost=1000.0))
