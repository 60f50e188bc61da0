"""The browser that tests of pages look through: Debian's Chromium without a window, driven by Playwright.

`browser` is a fixture for any module whose tests carry the mark: `pytestmark = needs_browser`. It lives as long as the
module, not the session: while Playwright's synchronous interface is up, an event loop counts as running in this thread,
and async tests would fail. So a module with this fixture has no async tests; a service under test is a process, or runs
in a thread.

Left out: what is looked at, and how (`look`).
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
_HERE = CHROMIUM is not None and importlib.util.find_spec("playwright") is not None
_SKIP = pytest.mark.skipif(not _HERE, reason="no browser: run scripts/browser.sh")
needs_browser = [pytest.mark.browser, _SKIP]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that keeps nothing and ends with the block.

    Tests run as root in containers, where Chromium's own sandbox can't be set up and /dev/shm is small. Only pages of
    ours are opened.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            timeout=120_000,  # milliseconds; other tests may keep the machine busy
        )
        try:
            yield started
        finally:
            started.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started
