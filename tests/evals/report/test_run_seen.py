"""`agent eval run mini` as a visitor sees it: a real run's page, its trajectories, and its comparison with another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from evals.mini.tasks import read_task
from evals.report.numbers import count, duration, interval, percent, short_count
from tests.browser.chromium import needs_browser
from tests.browser.look import DESKTOP, PHONE, Look, Screen
from tests.evals.runs.harness import Evaluation, chosen

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser
SOLVED, WRONG, GIVEN_UP = "mini__tally-7", "mini__till-11", "mini__confy-21"
Scheme = Literal["light", "dark"]
each_look = pytest.mark.parametrize("scheme", ["light", "dark"])
each_screen = pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])


@dataclass(frozen=True)
class Seen:
    """A run of the scripted model and its comparison with the reference fixes, graded as somebody's predictions."""

    out: Path
    comparison: Path
    compared: dict[str, Any]

    @property
    def report(self) -> Path:
        return self.out / "report.html"

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.out / "report.json").read_bytes())
        return data

    def trajectory(self, name: str) -> Path:
        return self.out / "trajectories" / name / "1" / "index.html"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    names = (SOLVED, WRONG, GIVEN_UP)
    run, gold = Evaluation(tmp_path_factory.mktemp("run")), Evaluation(tmp_path_factory.mktemp("gold"))
    done = run.run(*chosen(*names))
    assert done.code == 0, done.out + done.err
    rows = [{"instance_id": one, "model_name_or_path": "gold", "model_patch": read_task(one).patch} for one in names]
    predictions = gold.folder / "predictions.jsonl"
    predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = gold.agent(
        "grade", "mini", *chosen(*names), "--sandbox", "none", "--out", str(gold.out), "--predictions", str(predictions)
    )
    assert done.code == 0, done.out + done.err
    page = run.folder / "comparison.html"
    done = run.agent("compare", str(run.out), str(gold.out), "--json", "--html", str(page))
    assert done.code == 0, done.err
    return Seen(run.out, page, json.loads(done.out))


@pytest.fixture(params=["report", "trajectory", "comparison"])
def page(request: pytest.FixtureRequest, seen: Seen) -> Path:
    pages = {"report": seen.report, "trajectory": seen.trajectory(WRONG), "comparison": seen.comparison}
    return pages[request.param]


@each_look
@each_screen
def test_it_stands_by_itself_fits_and_takes_the_keyboard(
    browser: Browser, page: Path, screen: Screen, scheme: Scheme
) -> None:
    with Look(browser, page, screen=screen, scheme=scheme) as look:
        assert look.fits(), look.too_wide()
        assert look.missed_by_keyboard() == []


def cells(look: Look, table: str) -> list[list[str]]:
    """The texts of the rows that are shown, names first."""
    said: list[list[str]] = look.page.locator(table).evaluate(
        "table => [...table.tBodies[0].rows].filter(row => !row.hidden)"
        ".map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    return said


def test_the_numbers_are_those_of_the_data(browser: Browser, seen: Seen) -> None:
    data, attempts = seen.data, {row["instance_id"]: row for row in seen.data["attempts"]}
    assert [data["counts"][name] for name in ("resolved", "unresolved", "no_patch")] == [1, 1, 1]
    with Look(browser, seen.report) as look:
        rate = data["resolved"]
        assert look.page.locator(".hero .figure").inner_text() == percent(rate["rate"]) == "33.3 %"
        said = look.page.locator("#result").inner_text()
        assert "1 of 3 attempts resolved" in said and interval(rate["low"], rate["high"]) in said
        for name, shown in (("completion_tokens", short_count), ("prompt_tokens", short_count), ("seconds", duration)):
            assert shown(data["usage"][name]["sum"]) in said
        rows = {row[0]: row for row in cells(look, "#instance-table")}
        heads = look.page.locator("#instance-table thead th").all_inner_texts()
        heads = [head.split(" ")[0] for head in heads]
        assert rows.keys() == attempts.keys()
        for name, row in rows.items():
            shown_row = dict(zip(heads, row, strict=True))
            attempt = attempts[name]
            assert shown_row["steps"] == count(attempt["steps"])
            assert shown_row["written"] == short_count(attempt["completion_tokens"])
            assert shown_row["read"] == short_count(attempt["prompt_tokens"])
            if attempt["fail_to_pass"]:
                assert shown_row["F2P"] == "/".join(map(str, attempt["fail_to_pass"]))
        at = heads.index("written") + 1  # the exact number is what is sorted by
        written = look.page.locator(f"#instance-table tbody :nth-child({at})[data-v]").evaluate_all(
            "all => all.map(one => Number(one.dataset.v))"
        )
        assert sum(written) == data["usage"]["completion_tokens"]["sum"]
        groups = {row[0]: row for row in cells(look, "#groups table >> nth=0")}
        for group in data["by"]["repository"]:
            assert groups[group["name"]][1:4] == [
                str(group["resolved"]), str(group["attempts"]), percent(group["rate"])
            ]  # fmt: skip


def test_sorting_and_finding_by_keyboard_alone(browser: Browser, seen: Seen) -> None:
    with Look(browser, seen.report) as look:
        steps = {row["instance_id"]: row["steps"] for row in seen.data["attempts"]}
        table = look.page.locator("#instance-table")
        table.get_by_role("button", name="steps").focus()
        look.page.keyboard.press("Enter")
        assert [steps[row[0]] for row in cells(look, "#instance-table")] == sorted(steps.values())
        look.page.keyboard.press("Space")
        assert [steps[row[0]] for row in cells(look, "#instance-table")] == sorted(steps.values(), reverse=True)
        look.page.get_by_label("find in the table").focus()
        look.page.keyboard.type("TILL")
        assert [row[0] for row in cells(look, "#instance-table")] == [WRONG]
        assert look.page.get_by_role("status").inner_text() == "1 of 3 rows"
        table.get_by_role("link", name=WRONG).focus()
        look.page.keyboard.press("Enter")
        look.page.wait_for_url(f"**/trajectories/{WRONG}/1/index.html")


def test_every_attempt_leads_to_its_steps_with_what_they_changed(browser: Browser, seen: Seen) -> None:
    for row in seen.data["attempts"]:
        with Look(browser, seen.report) as look:
            look.page.locator("#instance-table").get_by_role("link", name=row["instance_id"]).click()
            look.page.wait_for_url(f"**/trajectories/{row['instance_id']}/1/index.html")
            assert look.page.locator("section.turn").count() == row["steps"]
            changed = look.page.locator("section.turn > div > pre.diff")
            steps = json.loads((seen.trajectory(row["instance_id"]).parent / "steps.json").read_bytes())["steps"]
            assert changed.count() == len(steps) == {SOLVED: 2, WRONG: 1, GIVEN_UP: 0}[row["instance_id"]]
            if row["instance_id"] == WRONG:
                assert "+        return round(self.count * price * 100)" in changed.inner_text()
                assert look.page.get_by_text("test_every_cent_is_read_as_it_is_shown").first.is_visible()
            look.page.get_by_role("link", name="Report").click()
            look.page.wait_for_url("**/report.html#*")
            assert look.page.locator("tr:target").inner_text().startswith(row["instance_id"])


def test_the_comparison_says_what_can_be_concluded(browser: Browser, seen: Seen) -> None:
    gained = {one["instance_id"]: one["causes"] for one in seen.compared["flips"]["gained"]}
    assert gained == {GIVEN_UP: ["no edit"], WRONG: ["wrong file"]}
    with Look(browser, seen.comparison) as look:
        assert look.page.get_by_text("cannot be told apart").first.is_visible()
        assert look.page.locator(".hero .figure").inner_text() == "+66.7 points"
        said = look.page.locator("body").inner_text()
        for one in (
            WRONG,
            GIVEN_UP,
            "B resolves more often: 2 instances",
            "A: no edit",
            "A: wrong file",
            "scripted-mini",
            "gold",
        ):
            assert one in said
