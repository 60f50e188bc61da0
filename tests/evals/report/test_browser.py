"""The pages in a real browser: nothing runs or is asked for but their own, and everything on them works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from evals.report import page, report_of, trajectory_page, write_report
from evals.report.comparison import compare
from evals.report.comparison_page import comparison_page
from evals.report.sides import read_side
from tests.browser.chromium import needs_browser
from tests.browser.look import DESKTOP, PHONE, Look, Screen, contrast, luminance
from tests.evals.report.sample import manifest, write_folder
from tests.evals.report.test_pages import EVIL, hostile

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run")
    write_folder(made, 2)
    write_report(made)
    return made


def column(look: Look, name: str) -> list[str]:
    """The cells of a column of the table of instances that are shown, from above."""
    return list(
        look.page.evaluate(
            """name => {
                const table = document.getElementById("instance-table");
                const at = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent.trim() === name);
                return [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[at].textContent);
            }""",
            name,
        )
    )


def click_head(look: Look, name: str) -> None:
    look.page.locator("#instance-table thead").get_by_role("button", name=name, exact=True).click()


def test_sorting(browser: Browser, folder: Path) -> None:
    with Look(browser, folder / "report.html") as look:
        steps = [int(cell.replace(",", "")) for cell in column(look, "steps")]
        assert steps != sorted(steps)
        click_head(look, "steps")
        assert [int(cell.replace(",", "")) for cell in column(look, "steps")] == sorted(steps)
        click_head(look, "steps")
        assert [int(cell.replace(",", "")) for cell in column(look, "steps")] == sorted(steps, reverse=True)
        head = look.page.locator("#instance-table th[aria-sort]")
        assert head.count() == 1 and head.get_attribute("aria-sort") == "descending"
        click_head(look, "cost")
        costs = column(look, "cost")
        known = [float(cell.lstrip("$")) for cell in costs if cell != "–"]
        assert known == sorted(known) and "–" in costs and set(costs[len(known) :]) == {"–"}
        click_head(look, "instance")
        names = column(look, "instance")
        assert names == sorted(names) and len(names) == 120


def test_searching(browser: Browser, folder: Path) -> None:
    with Look(browser, folder / "report.html") as look:
        look.page.get_by_label("only with this result").select_option("unresolved")
        assert set(column(look, "result")) == {"unresolved"}
        look.page.get_by_label("find in the table").fill("SYMPY")
        shown = column(look, "instance")
        assert shown and all(name.startswith("sympy") for name in shown)
        assert look.page.get_by_role("status").inner_text() == f"{len(shown)} of 120 rows"


def test_links_lead_to_trajectories_and_back(browser: Browser, folder: Path) -> None:
    with Look(browser, folder / "report.html") as look:
        look.page.locator("#instance-table a").first.click()
        look.page.wait_for_url("**/trajectories/django__django-11000/1/index.html")
        assert look.page.locator("section.turn").count() > 2
        thinking = look.page.locator(".thinking").first
        assert thinking.is_visible()  # it is short
        look.page.locator(".turn summary").first.click()
        assert not thinking.is_visible()
        look.page.get_by_role("link", name="Report").click()
        look.page.wait_for_url("**/report.html#i-django__django-11000-1")
        assert look.page.locator("tr:target").is_visible()


def test_without_script_it_is_complete(browser: Browser, folder: Path) -> None:
    with Look(browser, folder / "report.html", script=False) as look:
        assert look.page.locator("#instance-table tbody tr").count() == 120
        assert look.page.locator("svg.plot").first.is_visible()
        assert look.page.locator(".filter").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(browser: Browser, folder: Path, scheme: Literal["light", "dark"]) -> None:
    with Look(browser, folder / "report.html", scheme=scheme) as look:
        back = look.css("body", "background-color")
        assert (luminance(back) < 0.1) == (scheme == "dark")
        for selector, name, least in (
            ("body", "color", 7), (".soft", "color", 4.5), ("main a", "color", 4.5), ("svg text", "fill", 4.5),
            (".fill-resolved", "fill", 3), (".fill-unresolved", "fill", 3), (".fill-infrastructure", "fill", 3),
        ):  # fmt: skip
            assert contrast(look.css(selector, name), back) >= least, selector


@pytest.mark.parametrize("screen", [PHONE, DESKTOP])
def test_nothing_is_cut_off_at_the_side(browser: Browser, folder: Path, screen: Screen) -> None:
    for path in (folder / "report.html", *folder.glob("trajectories/*/*/index.html")):
        with Look(browser, path, screen=screen) as look:
            assert look.fits(), (path, look.too_wide())


def test_pictures_have_names_for_those_who_do_not_see_them(browser: Browser, folder: Path) -> None:
    with Look(browser, folder / "report.html") as look:
        for name in (
            "Steps per attempt",
            "Cost per attempt",
            "Results of all attempts",
            "Resolved within so many steps",
        ):
            assert look.page.get_by_role("img", name=name).count() == 1
        figures = look.page.locator("svg:not([role]):not([aria-hidden])")
        assert figures.count() == 0


def test_pictures_are_drawn(browser: Browser, folder: Path) -> None:
    """Every shape is seen: none hides in another, is empty, or lies outside of its picture."""
    with Look(browser, folder / "report.html") as look:
        for name, least in (("svg .dot", 12), ("svg rect", 80), ("svg path.curve", 3), ("svg line.median", 6)):
            assert look.page.locator(name).count() >= least
        unseen: list[str] = look.page.evaluate(
            """() => [...document.querySelectorAll("svg :is(line, rect, circle, path, text)")].filter(one => {
                const box = one.getBoundingClientRect(), all = one.ownerSVGElement.getBoundingClientRect();
                const inside = box.left >= all.left - 1 && box.right <= all.right + 1 && box.top >= all.top - 3
                    && box.bottom <= all.bottom + 3;
                return !inside || box.width + box.height === 0 || !["svg", "g"].includes(one.parentNode.localName);
            }).map(one => one.outerHTML.slice(0, 200))"""
        )
        assert unseen == []


def test_hostile_text_stays_text(browser: Browser, tmp_path: Path) -> None:
    """Also with the policy taken out, so that escaping and policy are each shown to hold alone."""
    said: dict[str, Any] = {"run": EVIL, "dataset": {"name": EVIL}, EVIL: {EVIL: EVIL}}
    text = page(report_of(hostile(), said))
    for name, content in (("a.html", text), ("b.html", text.replace("Content-Security-Policy", "x-none"))):
        (tmp_path / name).write_text(content)
        with Look(browser, tmp_path / name) as look:
            assert look.page.locator("main img, body > script:not(:last-child)").count() == 0
            assert "<script>alert(1)</script>" in look.page.locator("h1").inner_text()
            assert look.fits()


def test_the_policy_holds_where_escaping_would_fail(browser: Browser, tmp_path: Path) -> None:
    text = page(report_of(hostile(), manifest()))
    planted = "<script>document.title = 'ran'</script><img src='x.png' onerror=\"document.title = 'ran'\">"
    (tmp_path / "x.html").write_text(text.replace("<main>", f"<main>{planted}"))
    context = browser.new_context()
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.goto((tmp_path / "x.html").as_uri())
    assert opened.title() != "ran" and len(said) >= 2
    assert all("Content Security Policy" in line for line in said)
    context.close()


def test_a_comparison_can_be_looked_at(browser: Browser, tmp_path: Path) -> None:
    write_folder(tmp_path / "a", trajectories=0)
    write_folder(tmp_path / "b", trajectories=0, run="nightly-8", skill=0.3)
    found = compare(read_side(tmp_path / "a"), read_side(tmp_path / "b"))
    (tmp_path / "c.html").write_text(comparison_page(found))
    for screen in (PHONE, DESKTOP):
        with Look(browser, tmp_path / "c.html", screen=screen) as look:
            assert look.fits() and look.page.get_by_text("B resolves more than A").is_visible()


def test_a_trajectory_of_hostile_text_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "patch.diff").write_text(f"+{EVIL[:40]}\n")
    row = report_of(hostile(), {})["attempts"][0]
    (tmp_path / "index.html").write_text(trajectory_page(tmp_path, row))
    with Look(browser, tmp_path / "index.html", screen=PHONE) as look:
        assert look.fits() and look.page.locator("script, img").count() == 0
