"""Words of repositories, people and models in every view: they are shown, and nothing comes of them.

A page with hostile words has to have the very elements and attributes that it has with harmless ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from service.store import State
from service.webhooks.model import WishKind
from tests.service.dashboard.seeds import WRITE, Asked, ask, evaluate, session
from tests.service.dashboard.serving import dashboard

pytestmark = pytest.mark.heavy

HOSTILE = (
    "\"'></td></title></textarea><script>alert(1)</script><img src=x onerror=alert(1)> onload=alert(1) "
    "javascript:alert(1) {{7*7}} {% raw %} <!-- &lt;b&gt; \u202e\u2066\u200b\x1b[31m\x07"
)
NAMES = "\"'><img src=x onerror=alert(1)>{{7*7}}\u202e\x1b"  # of folders, which hold no slash
HARMLESS = "plain/words"
STEERING = re.compile(r"[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\x0b-\x1f\x7f]")


class Shape(HTMLParser):
    """A page's elements with their attributes' names, its addresses, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [str(value) for name, value in attrs if name in ("href", "src", "action", "hx-get")]

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment", (data,)))

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(folder: Path, word: str, name: str) -> dict[str, str]:
    """Every page of ours, with `word` wherever somebody's words can stand."""
    with dashboard(folder, model=f"http://127.0.0.1:9/{name}") as site:
        for number, state in enumerate((State.WAITING, State.DONE, State.FAILED), start=1):
            kind = WishKind.FIX if number > 1 else WishKind.REVIEWED
            ask(site.store, site.runs, Asked(word, number, state, kind, who=word, why=word, pull=number))
        evaluate(
            site.evaluations, "nightly", dataset=word, model=word, instance=name, cause=word, meaning=word, page=" "
        )
        evaluate(site.evaluations, "hidden", dataset=word, model=word, instance=word, cause=word)
        (site.evaluations / name).mkdir()
        (site.evaluations / name / "manifest.json").write_text("{}")
        with site.client(session(site.store, WRITE, word), Origin=site.url) as client:
            asked = {
                "runs": ("/", {}), "filtered": ("/", {"repository": word}), "no state": ("/", {"state": word[:15]}),
                "nothing": ("/", {"repository": f"{word}{word[:1]}"[:200]}), "queue": ("/queue", {}),
                "evaluations": ("/evaluations", {}), "evaluation": ("/evaluations/nightly", {}),
                "other": ("/evaluations/hidden", {}), "missing": (f"/{quote(name)}", {}),
                "named": (f"/evaluations/{quote(name)}", {}),
            }  # fmt: skip
            found = {what: client.get(path, params=more or None).text for what, (path, more) in asked.items()}
        with site.client(Origin=site.url) as client:
            found["login"] = client.get("/login", params={"next": f"/{word}", "ticket": word}).text
            found["refused"] = client.post("/login", data={"token": word, "next": f"/{word}"}).text
        return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Shape, Shape, str]]:
    hostile = pages(tmp_path_factory.mktemp("hostile"), HOSTILE, NAMES)
    harmless = pages(tmp_path_factory.mktemp("harmless"), HARMLESS, "-plain")
    return lambda what: (Shape(hostile[what]), Shape(harmless[what]), hostile[what])


VIEWS = [
    "runs", "filtered", "no state", "nothing", "queue", "evaluations", "evaluation", "other", "missing", "named",
    "login", "refused",
]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_comes_of_words(view: str, both: Callable[[str], tuple[Shape, Shape, str]]) -> None:
    hostile, harmless, page = both(view)
    assert hostile.elements == harmless.elements
    allowed = ("/", "#", "https://forge.example/")
    assert not [one for one in hostile.addresses if not one.startswith(allowed)]
    assert not [one for one in hostile.addresses if one.startswith("//")]
    assert not STEERING.search(page)
    assert ">49<" not in page


@pytest.mark.parametrize("view", ["runs", "queue", "evaluation", "evaluations"])
def test_words_are_shown(view: str, both: Callable[[str], tuple[Shape, Shape, str]]) -> None:
    hostile, _, _ = both(view)
    assert "<script>alert(1)</script>" in hostile.text
    assert "{{7*7}}" in hostile.text
    assert "\\u202e" in hostile.text
    assert "\\x1b[31m" in hostile.text


def test_a_page_that_an_evaluation_wrote_has_no_session_and_asks_for_nothing(tmp_path: Path) -> None:
    with dashboard(tmp_path) as site:
        evaluate(site.evaluations, "nightly", instance=NAMES, page="<script>alert(1)</script>")
        with site.visitor() as client:
            shown = Shape(client.get("/evaluations/nightly").text)
            (link,) = (one for one in shown.addresses if one.endswith("%1B/1/index.html"))
            for path in ("/evaluations/nightly/report.html", link):
                answer = client.get(path)
                assert answer.status_code == 200
                policy = answer.headers["content-security-policy"].split("; ")
                assert policy[:2] == ["sandbox allow-scripts", "default-src 'none'"]
                assert "frame-ancestors 'none'" in policy
                assert "allow-same-origin" not in answer.headers["content-security-policy"]
