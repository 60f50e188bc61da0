"""The dashboard's pictures in docs/, of what `agent service demo` shows.

    python scripts/screenshots.py          # needs the extra `service` and scripts/browser.sh

The demo runs as anybody starts it, without a sandbox; when its story is told, each picture of the list is taken and is
kept small enough for a repository. Left out: what is on the pages (`service.dashboard`).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.chromium import chromium  # noqa: E402
from tests.browser.look import DESKTOP, Look, Screen  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

_MOST: Final = 150_000  # bytes of one picture
_PHONE: Final = Screen(390, 844, 1.5, touch=True)
_LAST_WORD: Final = "the bot answers"


def _runs(page: Page) -> None:
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("heading", name="Runs", exact=True).wait_for()


def _queue(page: Page) -> None:
    page.get_by_role("link", name="Queue", exact=True).click()
    page.get_by_text("Answered in").wait_for()


def _run(page: Page) -> None:
    """The first run, with the step in view that made the change."""
    page.locator("a[href^='/runs/r']").last.click()
    page.locator("#plot canvas").wait_for()
    for folded in (".chapter summary", "#step-1 > summary", "#step-2 > summary"):
        page.locator(folded).first.click()
    page.locator("h1").click()  # so that nothing has the focus


def _run_on_a_phone(page: Page) -> None:
    page.locator("a[href^='/runs/r']").last.click()
    page.locator("#plot canvas").wait_for()


@dataclass(frozen=True)
class Picture:
    """`go` leads a page that is logged in to what is to be seen."""

    name: str
    go: Callable[[Page], None]
    screen: Screen = DESKTOP
    scheme: Literal["light", "dark"] = "light"


PICTURES: Final = (
    Picture("dashboard-runs", _runs, Screen(1280, 420)),
    Picture("dashboard-runs-phone", _runs, _PHONE, "dark"),
    Picture("dashboard-queue", _queue, Screen(1280, 760)),
    Picture("dashboard-run", _run, Screen(1280, 860)),
    Picture("dashboard-run-phone", _run_on_a_phone, _PHONE, "dark"),
)


@contextmanager
def demo() -> Iterator[str]:
    """An address that logs in once, of a demo whose story is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["service", "demo", "--no-open", "--sandbox", "none", "--port", str(port)]
    command = [sys.executable, "-m", "cli.main", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield _told(running)
        finally:
            running.send_signal(signal.SIGINT)


def _told(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    address = ""
    for line in running.stdout:
        print(line, end="")
        found = re.search(r"http://\S+/login\?ticket=\S+", line)
        address = found[0] if found else address
        if line.startswith(_LAST_WORD):
            return address
    raise SystemExit("the demo ended before its story was told: what it said is above")


def main() -> None:
    with demo() as address, chromium() as browser:
        with Look(browser, address) as first:
            first.page.get_by_role("button", name="Open the dashboard").click()
            first.page.get_by_role("heading", name="Runs", exact=True).wait_for()
            first.page.locator("table").get_by_text("done", exact=True).nth(1).wait_for()
            cookies = first.page.context.cookies()
        home = address.partition("/login")[0]
        for picture in PICTURES:
            with Look(browser, f"{home}/login", screen=picture.screen, scheme=picture.scheme) as look:
                look.page.context.add_cookies(cookies)  # type: ignore[arg-type]
                look.page.goto(home)
                picture.go(look.page)
                path = ROOT / "docs" / f"{picture.name}.png"
                look.picture(path)
            size = path.stat().st_size
            print(f"{path.relative_to(ROOT)}: {size:,} bytes", "" if size <= _MOST else "(too large)")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
