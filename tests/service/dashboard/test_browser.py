"""The dashboard in a real browser: every page at every size and scheme, by keyboard, without scripts, and live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from service.store import State
from service.store.sessions import make_ticket
from service.store.tokens import revoke_token, tokens
from service.webhooks.model import WishKind
from tests.browser.chromium import needs_browser
from tests.browser.look import DESKTOP, PHONE, Look, Screen, contrast
from tests.service.dashboard.seeds import REPORT, USUAL, WRITE, ask, evaluate, token
from tests.service.dashboard.serving import Dashboard, dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [*needs_browser, pytest.mark.timeout(300)]
PAGES = {
    "/": "Runs",
    "/?repository=octo/calc&state=done": "Runs",
    "/?state=stale": "Runs",
    "/queue": "Queue",
    "/evaluations": "Evaluations",
    "/evaluations/nightly-7": "nightly-7",
    "/evaluations/going": "going",
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A service with something on every page; nobody changes it."""
    with dashboard(tmp_path_factory.mktemp("full"), model="http://127.0.0.1:9") as site:
        for asked in USUAL:
            ask(site.store, site.runs, asked)
        evaluate(site.evaluations, "nightly-7", page=REPORT)
        evaluate(site.evaluations, "going", report=False, dataset="mini")
        yield site


@contextmanager
def logged_in(browser: Browser, site: Dashboard, path: str = "/", **more: Any) -> Iterator[Look]:
    """A visitor who may change things, on a page."""
    given = token(site.store, WRITE)
    with Look(browser, f"{site.url}/login", **more) as look:
        look.page.get_by_label("Token").fill(given)
        look.page.get_by_role("button", name="Log in").click()
        look.page.get_by_role("heading", name="Runs", exact=True).wait_for()
        if path != "/":
            look.page.goto(f"{site.url}{path}", wait_until="domcontentloaded")
        yield look


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_page_fits_and_is_reached_by_keyboard(
    browser: Browser, full: Dashboard, screen: Screen, scheme: Literal["light", "dark"]
) -> None:
    with Look(browser, f"{full.url}/login?ticket=x", screen=screen, scheme=scheme) as look:
        assert look.fits()
        assert not look.missed_by_keyboard()
    with logged_in(browser, full, screen=screen, scheme=scheme) as look:
        for path, heading in PAGES.items():
            look.page.goto(f"{full.url}{path}", wait_until="domcontentloaded")
            look.page.get_by_role("heading", name=heading, exact=True, level=1).wait_for()
            look.page.evaluate(_HELD)
            assert look.fits(), (path, look.too_wide())
            assert not look.missed_by_keyboard(), path
            assert not too_faint(look), path


# The elements that are walked over stay the same: the page looks again no more.
_HELD = """() => {
    document.addEventListener("htmx:beforeRequest", event => event.preventDefault());
    document.addEventListener("htmx:beforeSwap", event => { event.detail.shouldSwap = false; });
}"""
_FAINT = """() => [...document.querySelectorAll("main *, header *")].filter(one =>
    [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
    && one.checkVisibility() && getComputedStyle(one).clipPath === "none").map(one => {
        let up = one, back = "rgba(0, 0, 0, 0)";
        for (; up && back.endsWith(", 0)"); up = up.parentElement) back = getComputedStyle(up).backgroundColor;
        return [one.textContent.trim().slice(0, 40), getComputedStyle(one).color, back];
    })"""


def too_faint(look: Look) -> list[str]:
    """Texts with less contrast than the guideline asks for."""
    found: list[tuple[str, str, str]] = look.page.evaluate(_FAINT)
    assert found
    return [f"{text}: {contrast(colour, back):.2f}" for text, colour, back in found if contrast(colour, back) < 4.5]


def test_from_the_login_through_all_pages_by_keyboard_alone(browser: Browser, full: Dashboard) -> None:
    with Look(browser, full.url) as look:
        page = look.page
        page.get_by_label("Token").wait_for()
        page.keyboard.type(token(full.store, WRITE))
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Runs", exact=True).wait_for()
        for name in ("Queue", "Evaluations"):
            tab_to(look, name)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name=name, exact=True, level=1).wait_for()
        tab_to(look, "nightly-7")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Attempts").wait_for()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        tab_to(look, "Log out", back=True)
        page.keyboard.press("Enter")
        page.get_by_label("Token").wait_for()


def tab_to(look: Look, name: str, *, back: bool = False) -> None:
    for _ in range(80):
        look.page.keyboard.press("Shift+Tab" if back else "Tab")
        if look.page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"the keyboard doesn't come to {name}")


@pytest.mark.parametrize("script", [True, False], ids=["scripts", "no scripts"])
def test_runs_are_chosen_and_stopped(browser: Browser, tmp_path: Path, script: bool) -> None:
    with dashboard(tmp_path) as site:
        for asked in USUAL:
            ask(site.store, site.runs, asked)
        with logged_in(browser, site, script=script) as look:
            page = look.page
            page.get_by_label("Repository").select_option("octo/calc")
            page.get_by_label("State").select_option("waiting")
            page.get_by_role("button", name="Show").click()
            page.get_by_text("octo/calc #14").wait_for(state="detached")
            page.locator("summary", has_text="Stop").click()
            page.get_by_role("button", name="Stop this run").click()
            page.locator("summary", has_text="Stop").wait_for(state="detached")
            *_, last = site.store.of_thread(77, USUAL[-1].number)
            assert last.wish.kind is WishKind.STOP


def test_pages_look_again_by_themselves_but_not_under_somebodys_hand(browser: Browser, tmp_path: Path) -> None:
    with dashboard(tmp_path) as site:
        first, second = (ask(site.store, site.runs, asked) for asked in USUAL[-2:])
        with logged_in(browser, site) as look:
            page = look.page
            link = page.locator(f"#run-{second.id}")
            link.focus()
            site.store.change(first.id, State.DONE)
            page.locator("tr", has_text="#131").get_by_text("done", exact=True).wait_for()
            assert page.evaluate("document.activeElement.id") == f"run-{second.id}"
            page.locator("summary", has_text="Stop").click()
            site.store.change(second.id, State.DONE)
            with page.expect_event("console", lambda said: said.text == "held"):
                # the page's own timer went off, and its question was held back
                page.evaluate("""document.addEventListener("htmx:beforeRequest", event => {
                    if (event.defaultPrevented) console.info("held") })""")
            assert page.locator("tr", has_text="#15").get_by_text("waiting", exact=True).is_visible()
            assert page.get_by_role("button", name="Stop this run").is_visible()
            page.locator("summary", has_text="Stop").click()
            page.locator("tr", has_text="#15").get_by_text("done", exact=True).wait_for()
            look.said[:] = [said for said in look.said if said != "held"]


def test_a_page_sends_to_the_login_when_its_session_ends(browser: Browser, tmp_path: Path) -> None:
    with dashboard(tmp_path) as site, logged_in(browser, site) as look:
        for one in tokens(site.store):
            revoke_token(site.store, one.id)
        look.page.get_by_label("Token").wait_for()
        look.said[:] = [said for said in look.said if "401" not in said]


def test_a_report_is_a_page_of_nobody_that_leads_to_its_trajectories_and_back(
    browser: Browser, full: Dashboard
) -> None:
    with logged_in(browser, full, "/evaluations/nightly-7") as look:
        page = look.page
        page.get_by_role("link", name="The whole report").click()
        page.get_by_text("origin null").wait_for()
        page.get_by_role("link", name="A trajectory").click()
        page.get_by_text("what happened").wait_for()
        page.get_by_role("link", name="Report").click()
        page.get_by_text("origin null").wait_for()


def test_a_ticket_opens_the_dashboard_with_one_press(browser: Browser, full: Dashboard) -> None:
    ticket = make_ticket(full.store, token(full.store, WRITE).split("_")[1]).reveal()
    with Look(browser, f"{full.url}/login?ticket={ticket}") as look:
        look.page.keyboard.press("Enter")
        look.page.get_by_role("heading", name="Runs", exact=True).wait_for()
        assert ticket not in look.page.url
