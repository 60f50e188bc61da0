"""The page of a run over HTTP: what it shows and to whom, what comes when asked for, what it takes no harm from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from service.dashboard.run.page import LISTED
from service.store import Request, State
from service.webhooks.model import WishKind
from tests.service.dashboard.run.acting import Acting
from tests.service.dashboard.seeds import Asked, ask
from tests.service.dashboard.serving import Dashboard, dashboard
from tests.service.dashboard.test_hostile import STEERING, Shape

pytestmark = pytest.mark.heavy
HOSTILE = (
    "\"'></pre></summary></details><script>alert(1)</script><img src=x onerror=alert(1)> onload=alert(1) "
    "{{7*7}} {% raw %} <!-- &lt;b&gt; \u202e\u2066\u200b\x1b[31m\x07 javascript:alert(1)"
)
HARMLESS = re.sub(r"\S", "p", HOSTILE.encode("ascii", "replace").decode())
WROTE = "def mean(values):\n    return sum(values) / len(values)\n"


def begun(site: Dashboard, number: int, state: State = State.RUNNING, **more: str) -> tuple[Request, Acting]:
    """A request and its run, which is being written."""
    request = ask(site.store, site.runs, Asked("octo/calc", number, state, pull=4 if state is State.DONE else None))
    (folder,) = (site.runs / f"77-{number}-1").iterdir()
    (folder / "events.jsonl").unlink()
    return request, Acting(folder, **more)


def worked(acting: Acting, word: str = "calc/ops.py") -> None:
    acting.step("cat calc/ops.py", "def mean(values):")
    acting.step("edit", "done", acting.tree({"calc/ops.py": WROTE, "docs.md": f"{word}\n"}), thinking="t" * 2000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with dashboard(tmp_path_factory.mktemp("site")) as found:
        yield found


def test_a_run_is_shown_whole(site: Dashboard) -> None:
    request, acting = begun(site, 20, State.DONE)
    worked(acting)
    acting.end()
    acting.close()
    (acting.folder / "patch.diff").write_text("diff --git a/x b/x\n")
    with site.visitor() as client:
        page = client.get(f"/runs/{request.id}")
        assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
        assert "style=" not in page.text and "<script>" not in page.text
        text = " ".join(Shape(page.text).text.split())
        for said in (
            "mean() is too small", "https://forge.example/octo/calc/pull/4", "It gives 2.", "cat calc/ops.py",
            "1,100 read, 91 % cached", "make test fails without the change and passes with it.",
            "Anything that needs a network: there was none.", "thinking, 2,000 characters", "$0.03", "qwen",
        ):  # fmt: skip
            assert said in text or said in page.text, said
        assert 'class="t-kw">return</span>' in page.text and "The divisor was off." in text
        assert "data-going" not in page.text
        assert (
            client.get(f"/runs/{acting.folder.name}").text.count('class="step') == page.text.count('class="step') == 3
        )
        patch = client.get(f"/runs/{request.id}/patch")
        assert (patch.text, patch.headers["content-type"]) == ("diff --git a/x b/x\n", "text/x-diff; charset=utf-8")
        assert patch.headers["content-disposition"] == f'attachment; filename="{acting.folder.name}.diff"'
        series = client.get(f"/runs/{request.id}/series.json").json()
        assert (series["prompt"], series["new"], series["together"]) == (
            [1000, 1100, 1200],
            [100] * 3,
            [1000, 2100, 3300],
        )
        assert series["share"][0] == 0.9
        assert (
            "+return" not in page.text and "sum(values)" in Shape(client.get(f"/runs/{request.id}/changes").text).text
        )
        assert "3,300" in client.get(f"/runs/{request.id}/turns", headers={"HX-Request": "true"}).text


PATHS = ["", "/live", "/patch", "/series.json", "/turns", "/steps/1", "/earlier?before=1", "/changes"]
KEYS = [
    "r" + "0" * 24, "r" + "0" * 23, "20260101-000000-ffff", "%2e%2e%2f", "..%2f..%2fetc%2fpasswd", "77-20-1",
    "%00", "x" * 3000, "20260101-000000-aaaa%2f..", "*", "r" + "٠" * 24,
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_what_is_no_run_is_nowhere(site: Dashboard, key: str) -> None:
    with site.visitor() as client:
        for path in PATHS:
            answer = client.get(f"/runs/{key}{path}")
            assert answer.status_code in (404, 422), path
            assert "root:" not in answer.text


def test_nobody_looks_without_a_session(site: Dashboard) -> None:
    request, acting = begun(site, 21, State.DONE)
    acting.end()
    acting.close()
    with site.client() as client:
        for path in PATHS:
            assert client.get(f"/runs/{request.id}{path}").status_code == 303, path
    with site.visitor("runs:write") as client:
        assert client.get(f"/runs/{request.id}/live").status_code == 403


def test_a_request_without_a_run_says_so(site: Dashboard) -> None:
    for number, state, said in (
        (22, State.WAITING, "waiting for its turn"),
        (23, State.QUEUED, "waiting for a worker"),
    ):
        request = ask(site.store, site.runs, Asked("octo/calc", number, state))
        with site.visitor() as client:
            page = client.get(f"/runs/{request.id}")
            assert said in page.text and "data-going" in page.text
            assert client.get(f"/runs/{request.id}/patch").status_code == 404
    gone = ask(site.store, site.runs, Asked("octo/calc", 24, State.STALE))
    (folder,) = (site.runs / "77-24-1").iterdir()
    (folder / "events.jsonl").unlink()
    with site.visitor() as client:
        assert "cleared away" in client.get(f"/runs/{gone.id}").text


def test_a_run_that_was_stopped_can_still_be_looked_at(site: Dashboard) -> None:
    """Its request never came to say which run it led to."""
    request = ask(site.store, site.runs, Asked("octo/calc", 25, State.QUEUED))
    acting = Acting(site.runs / "77-25-1" / "20260101-000000-abcd")
    acting.step()
    with site.visitor() as client:
        assert "data-going" in client.get("/runs/20260101-000000-abcd").text
        site.store.change(request.id, State.CANCELLED, why="stop came after it")
        for key in (request.id, "20260101-000000-abcd"):
            page = client.get(f"/runs/{key}").text
            assert 'id="step-1"' in page and "stop came after it" in page and "data-going" not in page
    acting.close()


def test_a_follow_up_keeps_the_run_going(site: Dashboard) -> None:
    request, acting = begun(site, 26, State.DONE)
    acting.end()
    asked = ask(site.store, site.runs, Asked("octo/calc", 26, State.QUEUED, WishKind.CONTINUE))
    with site.visitor() as client:
        page = client.get(f"/runs/{request.id}").text
        assert "data-going" in page and ">queued</span>" in page
        site.store.change(asked.id, State.DONE, run=acting.folder.name)
        assert "data-going" not in client.get(f"/runs/{request.id}").text
    acting.close()


def test_a_long_run_has_a_page_of_bounded_size(site: Dashboard) -> None:
    request, acting = begun(site, 27)
    for number in range(1000):
        acting.step(f"echo {number}", output="y" * 4000)
    number = acting.turn(("bash", {"command": "x"}))
    acting.called(number, 0, "z" * 10_000_000, exit_code=0, end="exited")
    acting.called(
        acting.turn(("bash", {"command": "fill"})), 0, "", acting.tree({"a.py": "line = 1\n" * 10_000}), exit_code=0
    )
    acting.close()
    with site.visitor() as client:
        page = client.get(f"/runs/{request.id}").text
        assert len(page) < 1_000_000 and "[cut: 9,994,000 characters left out" in Shape(page).text.replace("\n", "")
        assert page.count('class="step') == LISTED and page.count(" open>") < 40
        whole = client.get(f"/runs/{request.id}/steps/1001").text
        assert 300_000 < len(whole) < 320_000
        diff = client.get(f"/runs/{request.id}/steps/1002").text
        assert diff.count('class="row') == 5_000 and len(diff) < 2_000_000
        body = client.get(f"/runs/{request.id}/steps/900", headers={"HX-Request": "true"}).text
        assert "echo 899" in body and "<html" not in body
        seen, before = set(re.findall(r'id="step-(\d+)"', page)), re.search(r"before=(\d+)", page)
        while before:
            more = client.get(f"/runs/{request.id}/earlier?before={before[1]}", headers={"HX-Request": "true"}).text
            assert len(more) < 1_000_000
            found = set(re.findall(r'id="step-(\d+)"', more))
            assert not found & seen
            seen, before = seen | found, re.search(r"earlier\?before=(\d+)", more)
        assert seen == {str(number) for number in range(1, 1003)}


def live(text: str) -> list[dict[str, Any]]:
    """What the messages of a stream say."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith('data: {"now"')]


def hostile_page(folder: Path, word: str, name: str) -> dict[str, str]:
    """Every view of a run in which all words are `word` and all names of files `name`."""
    with dashboard(folder) as site:
        request, acting = begun(site, 30, issue=f"{word}\n\n{word}")
        acting.add_notes(word)
        number = acting.turn(("bash", {"command": word, word: word}), (word, {"path": word}), thinking=word, text=word)
        acting.called(number, 0, word, acting.tree({name: f"{word}\n{'q' * 30}\n"}), exit_code=1, end="exited")
        acting.called(number, 1, word, end=word)
        acting.step(word, word, acting.tree({name: f"{word}\n# {word}\n"}), thinking=word * 20, text=word)
        acting.end(name, word, word)
        acting.close()
        acting.at_even_times()
        site.store.change(request.id, State.FAILED, why=word)
        paths = {
            "page": "",
            "step": "/steps/1",
            "changes": "/changes",
            "turns": "/turns",
            "earlier": "/earlier?before=9",
        }
        with site.visitor() as client:
            found = {what: client.get(f"/runs/{request.id}{path}").text for what, path in paths.items()}
            said = live(client.get(f"/runs/{request.id}/live").text)
            found["live"] = "".join(piece["html"] for one in said for piece in one["pieces"])
            found["live"] += "".join(html for one in said for html in one["beside"].values())
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    names = "\"'><img src=x onerror=alert(1)>{{7*7}}\u202e\x1b.py"
    hostile = hostile_page(tmp_path_factory.mktemp("hostile"), HOSTILE, names)
    return hostile, hostile_page(tmp_path_factory.mktemp("harmless"), HARMLESS, re.sub(r"[^.py]", "p", names))


@pytest.mark.parametrize("view", ["page", "step", "changes", "turns", "earlier", "live"])
def test_nothing_comes_of_words(view: str, both: tuple[dict[str, str], dict[str, str]]) -> None:
    hostile, harmless = (Shape(pages[view]) for pages in both)
    coloured = ("span", ("class",))  # of tokens: other words are other tokens
    assert [one for one in hostile.elements if one != coloured] == [one for one in harmless.elements if one != coloured]
    allowed = ("/", "#", "https://forge.example/")
    assert not [one for one in hostile.addresses if not one.startswith(allowed) or one.startswith("//")]
    assert not STEERING.search(both[0][view])
    if view != "turns":
        assert "onerror=alert(1)>" in hostile.text and "\\u202e" in hostile.text


def test_every_line_of_a_diff_is_one_element(both: tuple[dict[str, str], dict[str, str]]) -> None:
    counts = [pages["changes"].count('<span class="row') for pages in both]
    assert counts[0] == counts[1] > 2
