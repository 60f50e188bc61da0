"""A live run, seen in a real browser through the dashboard of a real service: a fake forge, a slow scripted model."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from service.store import Store
from tests.browser.chromium import browser, needs_browser
from tests.browser.look import PHONE, Look, contrast
from tests.runs.harness import BUGGY, ISSUE, fixing_turns, served
from tests.service.bot.conftest import SLUG
from tests.service.bot.test_process import SECRET, children, free_port, started
from tests.service.dashboard.run.test_page import begun, worked
from tests.service.dashboard.seeds import WRITE, session, token
from tests.service.dashboard.serving import dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]
pytestmark = [*needs_browser, pytest.mark.heavy, pytest.mark.timeout(900)]
PATIENCE = 150  # seconds
RUN = re.compile(r"/runs/\d{8}-\d{6}-[0-9a-f]{4}$")
LINK = re.compile(r"\[trajectory\]\(([^)]*)\)")


@dataclass
class Running:
    """A service and its forge, in a thread of their own."""

    folder: Path
    delay: float  # seconds that the model takes for a token
    port: int = field(default_factory=free_port)
    pid: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: threading.Event = field(default_factory=threading.Event)
    _failed: list[BaseException] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> Store:
        return Store.open(f"sqlite:///{self.folder}/home/service.sqlite")

    def ask(self) -> int:
        """A maintainer labels a new issue; its number."""

        async def asked() -> int:
            title, _, body = ISSUE.partition("\n\n")
            number = await self.forge.open_issue(SLUG, "uma", title, body)
            await self.forge.label(SLUG, number, "mia", "patchwright")
            return number

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(PATIENCE)

    def linked(self) -> str:
        """Where the bot's status comment leads to, once it is there."""

        async def link() -> str:
            async with asyncio.timeout(PATIENCE):
                while not (found := [LINK.search(note.body) for note in self.forge.repo(SLUG).notes if note.author]):
                    await asyncio.sleep(0.1)
            (only,) = found
            assert only is not None
            return only[1]

        return asyncio.run_coroutine_threadsafe(link(), self._loop).result(PATIENCE)

    def kill_web(self) -> None:
        (found,) = children(self.pid, "service.server")
        os.kill(found, signal.SIGKILL)

    async def _serve(self) -> None:
        with served({"turns": fixing_turns(), "token_delay": self.delay}) as model:
            async with fake_forge(self.folder / "forge") as self.forge:
                await self._prepare(self.forge)
                async with started(self.folder, self.forge, self.port, self.app, self.key, model.url) as self.pid:
                    self._ready.set()
                    await self._stop.wait()

    async def _prepare(self, forge: FakeForge) -> None:
        await forge.add_repository(SLUG, BUGGY)
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright", hook=f"{self.url}/webhooks/github", secret=SECRET)
        forge.install(app.id, SLUG)
        self.app, self.key = app.id, app.key

    def _run(self) -> None:
        os.environ["PATCHWRIGHT_URL"] = self.url  # the service's processes have it of this one
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001  raised where the block ends
            self._failed.append(error)
            self._ready.set()
        finally:
            del os.environ["PATCHWRIGHT_URL"]

    @contextmanager
    def begun(self) -> Iterator[Running]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            assert self._ready.wait(PATIENCE) and not self._failed, self._failed
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(PATIENCE)
            self._loop.close()
        assert not self._failed, self._failed


def logged_in(look: Look, url: str, store: Store, path: str) -> None:
    """Whose browser has a session already."""
    look.page.set_default_timeout(1000 * PATIENCE)
    look.page.context.add_cookies([{"name": "patchwright", "value": session(store, WRITE), "url": url}])
    look.page.goto(f"{url}{path}", wait_until="domcontentloaded")


def story(look: Look) -> str:
    """All that the steps say, folded or not."""
    return " ".join((look.page.locator("#story").text_content() or "").split())


def test_a_run_is_watched_from_its_label_to_its_pull_request(browser: Browser, tmp_path: Path) -> None:
    with Running(tmp_path, 0.04).begun() as running, Look(browser, running.url) as look:
        page = look.page
        page.set_default_timeout(1000 * PATIENCE)
        page.get_by_label("Token").fill(token(running.store, WRITE))
        page.get_by_role("button", name="Log in").click()
        number = running.ask()
        page.get_by_role("link", name=f"{SLUG} #{number}").click()
        page.locator("#run").wait_for()
        page.evaluate("window.opened = 1")  # gone when the page is loaded again
        page.locator("#step-1").wait_for()
        summary = page.locator("#step-1 > summary")
        body = page.locator("#step-1 .body")
        assert body.is_visible()
        summary.focus()
        page.keyboard.press("Enter")
        body.wait_for(state="hidden")
        page.locator("#plot canvas").wait_for()
        assert look.fits()
        page.get_by_text("The run has ended.").wait_for()
        page.get_by_role("link", name="Pull request #").wait_for()
        assert page.evaluate("window.opened") == 1
        assert not body.is_visible(), "what a visitor folded stays so"
        assert page.locator("#run-now").get_by_text("A change that was shown to work").is_visible()
        assert page.locator("#plot-says").text_content() == page.evaluate(LAST_TURN)
        assert page.locator(".row-plus").count() == 1 and page.locator("#run-stop").count() == 0
        check = page.locator(".check summary").first
        check.focus()
        page.keyboard.press("Enter")
        page.get_by_text("Without the change: exit 1").wait_for()
        before = story(look)
        page.reload(wait_until="domcontentloaded")
        assert story(look) == before
        assert page.locator("details.step").count() == 6
        link = running.linked()
        assert RUN.search(link)
        page.goto(link, wait_until="domcontentloaded")
        assert story(look) == before


LAST_TURN = """async () => {
    const answer = await fetch(document.getElementById("plot").dataset.series), said = await answer.json();
    const at = said.turn.length - 1, number = (value) => value.toLocaleString("en");
    return `Turn ${said.turn[at]}: ${number(said.prompt[at])} read, ${Math.round(100 * said.share[at])} % cached, `
        + `${number(said.written[at])} written`;
}"""


def test_the_page_goes_on_when_the_service_comes_back(browser: Browser, tmp_path: Path) -> None:
    with Running(tmp_path, 0.06).begun() as running, Look(browser, f"{running.url}/static/mark.svg") as look:
        page = look.page
        running.ask()
        logged_in(look, running.url, running.store, "/")
        page.get_by_role("link", name=f"{SLUG} #").first.click()
        page.locator("#step-1").wait_for()
        page.evaluate("window.opened = 1")
        running.kill_web()
        page.get_by_text("The connection is lost").wait_for()
        page.get_by_text("The run has ended.").wait_for()
        assert page.evaluate("window.opened") == 1
        before = story(look)
        page.reload(wait_until="domcontentloaded")
        assert story(look) == before
        lost = ("Failed to load resource: net::ERR_CONNECTION_REFUSED", "Failed to load resource: net::ERR_INCOMPLETE")
        look.said = [said for said in look.said if not said.startswith(lost)]


def test_a_run_is_stopped_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    """The model takes minutes for a turn: without the button there would be no end."""
    with (
        Running(tmp_path, 5.0).begun() as running,
        Look(browser, f"{running.url}/static/mark.svg", screen=PHONE, scheme="dark") as look,
    ):
        page = look.page
        running.ask()
        link = running.linked()
        assert link.startswith(f"{running.url}/runs/r")
        logged_in(look, running.url, running.store, link.removeprefix(running.url))
        page.get_by_text("thinking…").wait_for()
        assert look.fits()
        page.locator("#run-stop summary").click()
        page.get_by_role("button", name="Stop this run").click()
        page.locator(".state-cancelled").wait_for()
        page.locator("#run-now").get_by_text("Stopped").wait_for()
        assert look.fits()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read_and_reached(browser: Browser, tmp_path: Path, scheme: str) -> None:
    with dashboard(tmp_path) as site:
        request, acting = begun(site, 3)
        worked(acting)
        long = "x" * 400
        acting.step(f"echo {long}", long * 10, acting.tree({f"{long[:200]}.py": CODE}), thinking=long)
        acting.end(f"{long}.py", f"make {long}", long)
        acting.close()
        for screen in (PHONE, None):
            more = {"screen": screen} if screen else {}
            with Look(browser, f"{site.url}/static/mark.svg", scheme=scheme, **more) as look:  # type: ignore[arg-type]
                logged_in(look, site.url, site.store, f"/runs/{request.id}")
                look.page.locator("#plot canvas").wait_for()
                assert look.fits(), look.too_wide()
                assert not look.missed_by_keyboard()
                assert not unreadable(look)


CODE = 'import os  # a\n\n\n@property\ndef f(x):\n    return len("s") + 1 if None else [os, ValueError]\n'


def unreadable(look: Look) -> list[str]:
    """Texts whose contrast to what lies behind them is under 4.5, WCAG 2's AA."""
    found: list[list[str]] = look.page.evaluate(PAINTED)
    return [f"{what}: {front} on {back}" for what, front, back in found if contrast(front, back) < 4.5]


PAINTED = """() => {
    const seen = new Set(), found = [];
    for (const one of document.querySelectorAll("main *")) {
        const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || !one.getClientRects().length || one.closest("svg, .sr")) continue;
        let back = one;
        while (back && /rgba\\(.*, 0\\)$/.test(getComputedStyle(back).backgroundColor)) back = back.parentElement;
        const front = getComputedStyle(one).color;
        const behind = back ? getComputedStyle(back).backgroundColor : "rgb(255, 255, 255)";
        const key = `${one.className} ${front} ${behind}`;
        if (!seen.has(key)) { seen.add(key); found.push([one.tagName + "." + one.className, front, behind]); }
    }
    return found;
}"""


def test_without_scripts_it_says_what_there_is(browser: Browser, tmp_path: Path) -> None:
    with dashboard(tmp_path) as site:
        request, acting = begun(site, 3)
        for _ in range(70):
            acting.step()
        with Look(browser, f"{site.url}/static/mark.svg", script=False) as look:
            logged_in(look, site.url, site.store, f"/runs/{request.id}")
            assert not look.page.locator("#step-3 .call").count()
            look.page.locator("#step-3 > summary").click()
            look.page.locator("#step-3").get_by_role("link", name="Show this step").click()
            look.page.get_by_role("heading", name="Step 3").wait_for()
        acting.close()


SEEN = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_older_steps_come_when_they_are_opened(browser: Browser, tmp_path: Path) -> None:
    with dashboard(tmp_path) as site:
        request, acting = begun(site, 3)
        for number in range(260):
            acting.step(f"echo {number}.")
        with Look(browser, f"{site.url}/static/mark.svg") as look:
            logged_in(look, site.url, site.store, f"/runs/{request.id}")
            look.page.locator("#run-live").get_by_text("Live").wait_for()
            assert look.page.locator("#step-20").count() == 0
            earlier = look.page.locator("#earlier > summary")
            earlier.focus()
            look.page.keyboard.press("Enter")
            look.page.locator("#step-20 > summary").click()
            look.page.locator("#step-20 pre.command").get_by_text("echo 19.").wait_for()
            acting.step("echo new")
            look.page.locator("#step-261").wait_for()
            look.page.evaluate(SEEN, True)
            acting.step("echo unseen")
            look.page.evaluate(SEEN, False)
            look.page.locator("#step-262").wait_for()
            assert look.page.locator("details.step[id='step-262']").count() == 1
            streams = [url for url in look.asked if "/live?" in url]
            assert len(streams) == 2 and streams[0] != streams[1]
        acting.close()
