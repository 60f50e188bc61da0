"""The queue's page: what waits, who works, how the model's server is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from agent.jobs import open_jobs
from agent.jobs.seen import workers_seen
from runtime.models.scripted import ScriptedServer
from service.dashboard.model_health import HealthWatch, probe
from tests.service.dashboard.seeds import USUAL, ask
from tests.service.dashboard.serving import dashboard

pytestmark = pytest.mark.heavy


def test_the_queue_tells_what_waits_and_how_the_model_is(tmp_path: Path) -> None:
    async def shown() -> str:
        async with ScriptedServer({"turns": [{"text": "Done."}]}) as model:
            return await asyncio.to_thread(_queue, tmp_path, model.url)

    page = asyncio.run(shown())
    assert "state-up" in page
    assert re.search(r"Waiting</dt><dd>2<small>the oldest came", page)
    assert re.search(r"Running</dt><dd>2<small>", page)
    assert re.search(r"Failed</dt><dd>1<small>", page)
    assert "Nothing waits and nothing runs" not in page


def _queue(folder: Path, model: str) -> str:
    with dashboard(folder, model=model) as site, site.visitor() as client:
        site.state.model_health = HealthWatch(model, seconds=60)
        for asked in USUAL:
            ask(site.store, site.runs, asked)
        return client.get("/queue").text


async def test_a_model_that_doesnt_answer_is_told_in_time() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        found = await probe(f"http://127.0.0.1:{port}", seconds=0.2)
        assert (found.up, found.why) == (False, "it didn't answer within 0.2 s")


async def test_models_without_a_server_are_not_asked_and_logins_not_shown() -> None:
    found = await probe("script:/nowhere/turns.json")
    assert (found.up, found.address) == (None, "script:/nowhere/turns.json")
    refused = await probe("http://me:secret@127.0.0.1:9")
    assert refused.up is not True
    assert "secret" not in f"{refused.address} {refused.why}"


async def test_the_model_is_asked_once_for_many_visitors() -> None:
    async with ScriptedServer({"turns": [{"text": "Done."}]}) as model:
        watch = HealthWatch(model.url, seconds=60, kept=600)
        found = await asyncio.gather(*(watch.now() for _ in range(5)))
        assert all(one is found[0] for one in found)
        assert found[0].up


async def test_workers_are_seen_without_opening_the_queue(tmp_path: Path) -> None:
    async def nothing(job: object) -> dict[str, object]:
        return {}

    database = f"sqlite:///{tmp_path}/jobs.sqlite"
    assert await asyncio.to_thread(workers_seen, database, "patchwright-service") is None
    assert not list(tmp_path.iterdir())
    async with open_jobs(database, {"request": nothing}, application="patchwright-service", name="hand"):  # type: ignore[dict-item]
        found = await asyncio.to_thread(workers_seen, database, "patchwright-service")
        assert found is not None
        assert [one.name for one in found] == ["hand"]
        assert await asyncio.to_thread(workers_seen, database, "another") == []
