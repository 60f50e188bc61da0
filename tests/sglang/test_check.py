"""`agent model check` against the real SGLang server; what a model with random weights can't show is no failure."""

from __future__ import annotations

import pytest

from runtime.models.probe import Report, Result, probe
from tests.servers.shared import Server

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(900)]


def results(report: Report) -> dict[str, Result]:
    return {check.name: check.result for check in report.checks}


async def test_the_real_server_does_what_runs_need(sglang_hybrid: Server) -> None:
    report = await probe(sglang_hybrid.url, most_tokens=64)
    found = results(report)
    for name in ("ids in", "ids out", "stream", "abort", "context", "tokenizer"):
        assert found[name] is Result.OK, report.checks
    caches = {check.name: check.seen for check in report.checks if check.name.startswith("cache")}
    assert {found[name] for name in caches} == {Result.OK}, caches
    assert len(caches) == 3
    assert all("the rules foresee" in seen for seen in caches.values())
    assert found["tool call"] is Result.NOT_SHOWN
    assert report.host["engine"] == "sglang"
    assert report.ok, report.checks
