"""The stream of a run's page: who comes again at any point gets what they lack, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from agent.events import EventType
from service.dashboard.run.live import MOST_NEW
from service.store import State
from tests.service.dashboard.run.acting import GOLDEN, Acting
from tests.service.dashboard.run.test_page import begun, live
from tests.service.dashboard.seeds import Asked, ask
from tests.service.dashboard.serving import Dashboard, dashboard

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with dashboard(tmp_path_factory.mktemp("site")) as found:
        yield found


class Page:
    """A page that is kept up to date as `run.js` does it, by ids."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.beside: dict[str, str] = {}
        self.points: dict[int, list[int]] = {}
        self.last = ""

    def take(self, text: str) -> int:
        """A stream's text; how many pieces were put in."""
        count = 0
        for said in live(text):
            self.beside |= said["beside"]
            for point in said["points"]:
                self.points[point[0]] = point
            for piece in said["pieces"]:
                count += 1
                if piece["add"]:
                    self.parts[piece["id"]] = piece["html"]
                else:
                    self._within(piece["id"], piece["html"])
        self.last = next((line[4:] for line in reversed(text.splitlines()) if line.startswith("id: ")), self.last)
        return count

    def _within(self, name: str, html: str) -> None:
        """Calls and lines are replaced in their step."""
        step = f"step-{name.split('-')[1]}"
        whole, tag = self.parts[step], "section" if name.startswith("call") else "summary"
        before, _, rest = whole.partition(f'id="{name}"')
        start = before.rindex(f"<{tag}")
        end = whole.index(f"</{tag}>", start) + len(f"</{tag}>")
        assert rest
        self.parts[step] = whole[:start].rstrip() + "\n" + html.strip() + whole[end:]

    def same(self, other: Page) -> bool:
        def plain(parts: dict[str, str]) -> dict[str, list[str]]:
            return {name: html.split() for name, html in parts.items()}

        return (plain(self.parts), list(self.parts), self.points) == (
            plain(other.parts), list(other.parts), other.points,
        )  # fmt: skip


LINES = GOLDEN.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("cut", range(0, len(LINES) + 1, 1))
def test_who_comes_again_lacks_nothing_and_gets_nothing_twice(site: Dashboard, cut: int) -> None:
    request = ask(site.store, site.runs, Asked("octo/calc", 500 + cut, State.RUNNING))
    (folder,) = (site.runs / f"77-{500 + cut}-1").iterdir()
    log = folder / "events.jsonl"
    log.write_bytes(b"".join(LINES[:cut]))
    page, whole = Page(), Page()
    with site.visitor() as client:
        page.take(until(client, f"/runs/{request.id}/live", cut - 1))
        log.write_bytes(b"".join(LINES))
        site.store.change(request.id, State.DONE)
        again = {"Last-Event-ID": page.last} if page.last else {}
        text = client.get(f"/runs/{request.id}/live", headers=again).text
        page.take(text)
        assert text.endswith("event: end\ndata: {}\n\n")
        assert page.last == str(len(LINES) - 1)
        whole.take(client.get(f"/runs/{request.id}/live").text)
        assert page.same(whole) and len(whole.parts) == 8
        for after in (f"?after={page.last}", "?after=3"):
            rest = client.get(f"/runs/{request.id}/live{after}", headers={"Last-Event-ID": page.last}).text
            assert Page().take(rest) == 0


def until(client: httpx2.Client, path: str, seq: int) -> str:
    """What a stream says up to an event's number; the connection is then broken off."""
    text = ""
    with client.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            text += f"{line}\n"
            if f"id: {seq}" in text.splitlines() and text.endswith("\n\n"):
                return text
    raise AssertionError(text)


def test_new_steps_come_as_they_are_taken(site: Dashboard) -> None:
    request, acting = begun(site, 600)
    seen, page = threading.Event(), Page()

    def act() -> None:
        acting.step("echo first")
        assert seen.wait(120)
        acting.end()
        site.store.change(request.id, State.DONE, run=acting.folder.name)

    thread = threading.Thread(target=act)
    thread.start()
    text = ""
    with site.visitor() as client, client.stream("GET", f"/runs/{request.id}/live") as answer:
        for line in answer.iter_lines():
            text += f"{line}\n"
            if "echo first" in text:
                seen.set()
    thread.join()
    acting.close()
    page.take(text)
    assert text.endswith("event: end\ndata: {}\n\n")
    assert [name for name in page.parts if name.startswith("step")] == ["step-1", "step-2"]
    assert "A change that was shown to work" in page.beside["run-now"]
    assert sorted(page.points) == [1, 2]


def test_a_run_that_begins_while_it_is_waited_for_is_shown(site: Dashboard) -> None:
    request = ask(site.store, site.runs, Asked("octo/calc", 601, State.QUEUED))
    made: list[Acting] = []
    text = ""
    with site.visitor() as client, client.stream("GET", f"/runs/{request.id}/live") as answer:
        for line in answer.iter_lines():
            text += f"{line}\n"
            if "waiting for a worker" in text and not made:
                made.append(Acting(site.runs / "77-601-1" / "20260101-000000-abcd"))
                site.store.change(request.id, State.RUNNING)
            if "chapter-1" in text:
                site.store.change(request.id, State.CANCELLED)
    made[0].close()
    assert list(page_of(text).parts) == ["chapter-1"]


def page_of(text: str) -> Page:
    page = Page()
    page.take(text)
    return page


def test_who_lacks_too_much_loads_the_page_again(site: Dashboard) -> None:
    request, acting = begun(site, 602)
    for _ in range(MOST_NEW + 1):
        acting.step()
    acting.close()
    with site.visitor() as client:
        with client.stream("GET", f"/runs/{request.id}/live") as answer:
            text = "".join(f"{line}\n" for line in answer.iter_lines())
        assert text == "event: again\ndata: {}\n\n"


def test_a_session_that_ends_ends_the_stream(site: Dashboard) -> None:
    request, acting = begun(site, 603)
    visitor = site.visitor()
    text = ""
    with visitor.stream("GET", f"/runs/{request.id}/live") as answer:
        for line in answer.iter_lines():
            text += f"{line}\n"
            if "chapter-1" in text:
                _log_everybody_out(site)
    assert text.endswith("event: again\ndata: {}\n\n")
    acting.add(EventType.RUN_ENDED, outcome="interrupted", exit_code=130, message="")
    acting.close()


def _log_everybody_out(site: Dashboard) -> None:
    import sqlalchemy as sa

    from service.store.engine import writing
    from service.store.tables import SESSIONS

    with writing(site.store.engine) as connection:
        connection.execute(sa.delete(SESSIONS))


@pytest.mark.parametrize("given", ["-1", "x", "9" * 19, "٣", "1e3", "999999"])
def test_an_odd_last_event_is_taken_for_none(site: Dashboard, given: str) -> None:
    request, acting = begun(site, 700 + sum(given.encode()), State.DONE)
    acting.step()
    acting.close()
    with site.visitor() as client:
        text = client.get(f"/runs/{request.id}/live", headers={"Last-Event-ID": given.encode("utf-8")}).text
    page = page_of(text)
    assert list(page.parts) == ["chapter-1", "step-1"]


def test_nothing_is_said_where_nothing_is_new(site: Dashboard) -> None:
    request, acting = begun(site, 604, State.DONE)
    acting.step()
    acting.close()
    with site.visitor() as client:
        said: list[dict[str, Any]] = live(client.get(f"/runs/{request.id}/live?after=6").text)
    assert [one["pieces"] for one in said] == [[]]
