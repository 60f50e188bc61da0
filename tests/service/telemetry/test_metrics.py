"""`/metrics` of a real server: who gets it, and that what it says is what happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from agent.forges.base import Secret
from agent.forges.github.client import Exchange
from service.environment import SettingsProblem
from service.store import State, Store
from service.store.tokens import make_token
from service.telemetry import ended
from service.telemetry.ended import Ended
from service.telemetry.metrics import WebMetrics, WorkMetrics
from service.telemetry.serving import WorkServer
from service.telemetry.settings import MetricsSettings, metrics_settings
from service.telemetry.stored import StoredMetrics
from service.webhooks import WishKind
from tests.service.deliveries import asked
from tests.service.expected import recorded
from tests.service.serving import Served, serving, settings

TOKEN = "a-token-for-metrics-alone"
pytestmark = pytest.mark.heavy
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


async def scrape(served: Served, token: str = TOKEN) -> Samples:
    answer = await served.client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    return samples(answer.text)


def told(tmp_path: Path, **more: Any) -> Any:
    metrics = MetricsSettings(Secret(TOKEN), **more)
    return settings(f"sqlite:///{tmp_path}/service.sqlite", metrics=metrics)


async def test_deliveries_are_counted_by_what_came_of_them(tmp_path: Path) -> None:
    async with serving(told(tmp_path)) as served:
        _, payload = recorded("issues.labeled")
        for guid in ("one", "one", "two"):
            await served.deliver("issues", guid, payload)
        await served.deliver("issues", "three", payload, secret=b"not the secret of this hook")
        await served.deliver("never_heard_of", "four", {})
        await served.send(b"{}", **{"X-GitHub-Event": "x" * 5000})
        found = await scrape(served)
    assert of(found, "patchwright_deliveries_total", event="issues", result="new") == 1
    assert of(found, "patchwright_deliveries_total", event="issues", result="duplicate") == 2
    assert of(found, "patchwright_deliveries_total", event="other", result="unsigned") == 2
    assert of(found, "patchwright_deliveries_total", event="other", result="nothing") == 1
    assert of(found, "patchwright_delivery_seconds_count") == 6
    assert of(found, "patchwright_requests", kind="fix", state="waiting") == 1
    assert of(found, "patchwright_oldest_waiting_seconds") > 0
    assert of(found, "patchwright_database_up") == 1
    assert ("process_resident_memory_bytes", ()) in found


async def test_nobody_gets_metrics_without_a_token_that_may_read(tmp_path: Path) -> None:
    async with serving(told(tmp_path)) as served:
        reads = make_token(served.store, "prometheus", ["runs:read"]).reveal()
        writes = make_token(served.store, "other", ["runs:write"]).reveal()
        for headers in (
            {}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN},
            {"Authorization": f"Bearer {writes}"}, {"Authorization": "Bearer \xff"}, {"Authorization": "Bearer"},
        ):  # fmt: skip
            raw = [(name, value.encode("latin-1")) for name, value in headers.items()]
            answer = await served.client.get("/metrics", headers=raw)
            assert (answer.status_code, "patchwright_" in answer.text) == (401, False), headers
        assert await scrape(served, reads)
        assert await scrape(served)


async def test_an_empty_token_opens_nothing(tmp_path: Path) -> None:
    async with serving(settings(f"sqlite:///{tmp_path}/service.sqlite")) as served:
        answer = await served.client.get("/metrics", headers={"Authorization": "Bearer"})
        assert answer.status_code == 401


async def test_repositories_are_labels_only_where_it_is_asked_for(tmp_path: Path) -> None:
    for named in (False, True):
        async with serving(told(tmp_path, repositories=named)) as served:
            await served.deliver("issues", "one", recorded("issues.labeled")[1])
            answer = await served.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert ('repository="' in answer.text) is named


RUN = Ended("verified", "qwen", 42.0, 6, 1000, 800, 200, None, 1, 0, follow_up=False)


def test_ended_runs_are_added_up_once_and_only_what_is_new_is_read(store: Store) -> None:
    metrics = WebMetrics()
    stored = StoredMetrics(metrics.registry, store, store.engine.url.render_as_string(hide_password=False))
    assert ended.keep(store, "r1", RUN)
    assert not ended.keep(store, "r1", RUN)
    first = samples(metrics.text().decode())
    assert of(first, "patchwright_runs_total", model="qwen", outcome="verified") == 1
    assert ended.keep(store, "r2", Ended("limit", "qwen", 5.0, 1, 1000, 0, 10, 0.25, 2, 1, follow_up=True))
    assert ended.keep(store, "r3", Ended("error", "", 1.0, 0, 10, None, 0, None, 0, 0, follow_up=False))
    stored._until = 0.0  # as if a second had passed
    found = samples(metrics.text().decode())
    stored.close()
    assert of(found, "patchwright_runs_total", model="qwen", outcome="verified") == 1
    assert of(found, "patchwright_runs_total", model="qwen", outcome="limit") == 1
    assert of(found, "patchwright_prompt_tokens_total", model="qwen") == 2000
    assert of(found, "patchwright_prompt_tokens_cached_total", model="qwen") == 800
    assert of(found, "patchwright_completion_tokens_total", model="qwen") == 210
    assert of(found, "patchwright_prompt_cached_ratio", model="qwen") == 0.4
    assert of(found, "patchwright_cost_dollars_total", model="qwen") == 0.25
    assert of(found, "patchwright_run_seconds_count") == 3
    assert of(found, "patchwright_sandboxes_opened_total") == 3
    assert of(found, "patchwright_sandboxes_died_total") == 1
    assert ("patchwright_prompt_cached_ratio", (("model", ""),)) not in found


def test_a_line_of_another_version_is_passed_over(store: Store) -> None:
    store.note("worker", ended.RUN_ENDED, "r0", {"outcome": "verified", "new": "field"})
    ended.keep(store, "r1", RUN)
    assert [one.model for one in ended.kept(store, 0)[1]] == ["qwen"]


def test_models_are_bounded(store: Store) -> None:
    metrics = WebMetrics()
    stored = StoredMetrics(metrics.registry, store, store.engine.url.render_as_string(hide_password=False))
    for number in range(40):
        ended.keep(store, f"r{number}", Ended("limit", f"m{number}", 1.0, 1, 1, 1, 1, None, 0, 0, follow_up=False))
    found = samples(metrics.text().decode())
    stored.close()
    models = {labels for name, labels in found if name == "patchwright_turns_total"}
    assert len(models) == 21
    assert of(found, "patchwright_turns_total", model="other") == 20


def test_pull_requests_and_follow_ups_are_read_from_the_requests(store: Store) -> None:
    one, two = store.receive([asked(WishKind.FIX, 1), asked(WishKind.CONTINUE, 2)])
    for received in (one, two):
        assert received.request is not None
        store.change(received.request, State.DONE, pull=12)
    metrics = WebMetrics()
    stored = StoredMetrics(metrics.registry, store, store.engine.url.render_as_string(hide_password=False))
    found = samples(metrics.text().decode())
    stored.close()
    assert of(found, "patchwright_pull_requests_total", change="opened") == 1
    assert of(found, "patchwright_pull_requests_total", change="updated") == 1
    assert of(found, "patchwright_follow_ups_total") == 1


def test_a_database_that_is_away_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/service.sqlite")
    metrics = WebMetrics()
    stored = StoredMetrics(metrics.registry, store, f"sqlite:///{tmp_path}/none-jobs.sqlite")
    metrics.delivery("issues", "new", 0.002)
    store.engine.dispose()
    (tmp_path / "service.sqlite").unlink()
    (tmp_path / "service.sqlite").mkdir()
    found = samples(metrics.text().decode())
    stored.close()
    assert of(found, "patchwright_database_up") == 0
    assert of(found, "patchwright_deliveries_total", event="issues", result="new") == 1
    assert not (tmp_path / "none-jobs.sqlite").exists()


def test_workers_are_seen_by_their_heartbeats(tmp_path: Path) -> None:
    jobs = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite")
    with jobs.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE patchwright_workers (machine TEXT, running INTEGER, last_seen REAL)")
        seen = "(julianday('now') - 2440587.5) * 86400.0 - 90"
        connection.exec_driver_sql(f"INSERT INTO patchwright_workers VALUES ('alpha', 2, {seen}), ('alpha', 1, 9e12)")
    jobs.dispose()
    store = Store.open(f"sqlite:///{tmp_path}/service.sqlite")
    metrics = WebMetrics()
    stored = StoredMetrics(metrics.registry, store, f"sqlite:///{tmp_path}/jobs.sqlite")
    found = samples(metrics.text().decode())
    stored.close()
    store.close()
    assert of(found, "patchwright_workers", machine="alpha") == 2
    assert of(found, "patchwright_jobs_at_work", machine="alpha") == 3
    assert of(found, "patchwright_worker_heartbeat_age_seconds", machine="alpha") >= 89


def test_a_worker_serves_its_own_where_it_is_asked_to() -> None:
    metrics = WorkMetrics()
    metrics.exchange(Exchange("GET", "/repos/octo/calc/issues/7", 200, 0.0, 0.2, 4999))
    metrics.exchange(Exchange("POST", "/repos/octo/calc/issues/7/comments", None, 0.0, 0.2, None))
    metrics.worked("pull request")
    server = WorkServer(MetricsSettings(Secret(TOKEN), port=0), metrics.text)
    url = f"http://127.0.0.1:{server.port}"
    try:
        refused = httpx2.get(f"{url}/metrics")
        elsewhere = httpx2.get(f"{url}/", headers={"Authorization": f"Bearer {TOKEN}"})
        answer = httpx2.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    finally:
        server.close()
    assert (refused.status_code, elsewhere.status_code, answer.status_code) == (401, 404, 200)
    found = samples(answer.text)
    template = "/repos/{owner}/{repo}/issues/{}"
    assert of(found, "patchwright_forge_requests_total", method="GET", route=template, status="200") == 1
    assert (
        of(found, "patchwright_forge_requests_total", method="POST", route=f"{template}/comments", status="none") == 1
    )
    assert of(found, "patchwright_forge_rate_limit_remaining") == 4999
    assert of(found, "patchwright_requests_worked_total", end="pull request") == 1
    assert "octo" not in answer.text


def test_a_port_that_is_taken_or_open_to_all_is_named() -> None:
    server = WorkServer(MetricsSettings(port=0), lambda: b"")
    try:
        with pytest.raises(SettingsProblem, match="PATCHWRIGHT_WORKER_METRICS_PORT is"):
            WorkServer(MetricsSettings(port=server.port), lambda: b"")
    finally:
        server.close()
    given = {"PATCHWRIGHT_WORKER_METRICS_PORT": "9100", "PATCHWRIGHT_WORKER_METRICS_HOST": "0.0.0.0"}
    with pytest.raises(SettingsProblem, match="give PATCHWRIGHT_METRICS_TOKEN as well"):
        metrics_settings(given)
    with pytest.raises(SettingsProblem, match="fewer than 16"):
        metrics_settings({"PATCHWRIGHT_METRICS_TOKEN": "short"})
    assert metrics_settings({**given, "PATCHWRIGHT_METRICS_TOKEN": TOKEN}).port == 9100
    assert json.dumps(str(metrics_settings({"PATCHWRIGHT_METRICS_TOKEN": TOKEN}))).find(TOKEN) == -1
