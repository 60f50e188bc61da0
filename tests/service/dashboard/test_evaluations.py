"""Evaluation runs as their folders tell them, and the pages that they wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from service.dashboard.reports import evaluations
from tests.service.dashboard.seeds import REPORT, evaluate
from tests.service.dashboard.serving import Dashboard

pytestmark = pytest.mark.heavy


def test_evaluations_are_listed_and_summed_up(site: Dashboard) -> None:
    evaluate(site.evaluations, "nightly-7", page=REPORT, created=1.0)
    evaluate(site.evaluations, "going", report=False, dataset="mini", created=2.0)
    (site.evaluations / ".work").mkdir()
    (site.evaluations / "empty").mkdir()
    with site.visitor() as client:
        page = client.get("/evaluations").text
        assert re.findall(r'<a href="/evaluations/([^"]*)">', page) == ["going", "nightly-7"]
        assert "36 of 59" in page
        assert "61.0 %" in page
        one = client.get("/evaluations/nightly-7").text
        assert "incomplete fix" in one
        assert "/evaluations/nightly-7/trajectories/astropy__astropy-12907/1/index.html" in one
        assert "There is no report yet" in client.get("/evaluations/going").text
        assert client.get("/evaluations/going/report.html").status_code == 404


NAMES = ["..", "../nightly", "..%2f..", "%2e%2e", ".work", "nightly%00", "nightly/../nightly", "nightly%5c..", "empty"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_looked_up_and_never_joined(site: Dashboard, name: str) -> None:
    evaluate(site.evaluations, "nightly", page=REPORT)
    (site.folder / "report.html").write_text("secret")
    (site.folder / "manifest.json").write_text("{}")
    for hidden in (".work", "empty"):
        (site.evaluations / hidden).mkdir()
    with site.visitor() as client:
        for path in (f"/evaluations/{name}/report.html", f"/evaluations/nightly/trajectories/{name}/1/index.html"):
            answer = client.get(path)
            assert answer.status_code in (200, 404, 422)
            assert answer.status_code != 200 or str(answer.url).endswith("/evaluations/nightly/report.html")
            assert "secret" not in answer.text


def test_links_that_lead_out_of_a_folder_are_not_followed(site: Dashboard) -> None:
    place = evaluate(site.evaluations, "nightly")
    (site.folder / "secret.html").write_text("secret")
    (place / "report.html").symlink_to(site.folder / "secret.html")
    with site.visitor() as client:
        assert client.get("/evaluations/nightly/report.html").status_code == 404
        assert "The whole report" not in client.get("/evaluations/nightly").text


WRONG = [
    "", "[]", "null", "{}", '{"counts": 7}', '{"counts": {"attempts": "many"}, "attempts": [1, null, "x"]}',
    '{"resolved": {"rate": NaN, "low": 1e999}, "counts": {"attempts": 1e308}}', "[" * 20_000,
    '{"dataset": {"name": "\\ud800"}, "causes": [{"cause": "\\ud800"}]}',
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_folders_that_hold_something_else_are_shown_as_far_as_they_go(site: Dashboard, text: str) -> None:
    place = evaluate(site.evaluations, "nightly")
    (place / "report.json").write_text(text)
    (place / "manifest.json").write_text(text)
    with site.visitor() as client:
        assert client.get("/evaluations").status_code == 200
        assert client.get("/evaluations/nightly").status_code == 200


def test_reports_of_agent_eval_are_read(tmp_path: Path) -> None:
    """What `evals` writes is what is read here."""
    from evals.report.summary import report_of

    place = evaluate(tmp_path, "nightly")
    (place / "report.json").write_text(json.dumps(report_of([], json.loads((place / "manifest.json").read_text()))))
    (found,) = evaluations(tmp_path)
    assert found.summary is not None
    assert (found.summary.ended, found.summary.rate) == (0, None)
