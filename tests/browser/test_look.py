"""What the tests of pages rely on: a page's trouble is noticed, and a service that never is quiet can be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.browser.chromium import needs_browser
from tests.browser.look import PHONE, Look, contrast

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser
TOP = "<!doctype html><meta name=viewport content='width=device-width'><link rel=icon href='data:,'><title>x</title>"
PAGES = {
    "/": "<ul></ul><script>new EventSource('/events').onmessage = e =>"
    " document.querySelector('ul').insertAdjacentHTML('beforeend', `<li>${e.data}</li>`);</script>",
    "/error": "<script>nothing.there</script>",
    "/console": "<script>console.warn('look')</script>",
    "/elsewhere": "<img alt='' src='http://127.0.0.1:9/x.png'>",
    "/popup": "<script>window.open('about:blank')</script>",
}


class Service(BaseHTTPRequestHandler):
    """A page that is fed by a stream of events without an end."""

    go_on: ClassVar[Event]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if self.path == "/events" else "text/html")
        self.end_headers()
        if self.path == "/events":
            self.wfile.write(b"data: first\n\n")
            self.go_on.wait(30)
            self.wfile.write(b"data: second\n\n")
            self.wfile.flush()
        else:
            self.wfile.write(f"{TOP}{PAGES[self.path]}".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    Service.go_on = Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Service.go_on.set()
    server.shutdown()
    server.server_close()


def test_a_stream_of_events_is_seen_as_it_comes(browser: Browser, service: str) -> None:
    with Look(browser, service) as look:
        look.page.get_by_text("first").wait_for()
        assert look.page.locator("li").count() == 1
        Service.go_on.set()
        look.page.get_by_text("second").wait_for()
        assert f"{service}/events" in look.asked


@pytest.mark.parametrize("path", sorted(PAGES.keys() - {"/"}))
def test_trouble_is_noticed(browser: Browser, service: str, path: str) -> None:
    with pytest.raises(AssertionError, match="the page"), Look(browser, f"{service}{path}") as look:
        look.page.wait_for_load_state("load")


def test_what_failed_is_told_with_the_page(browser: Browser, service: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught, Look(browser, f"{service}/console"):
        raise ZeroDivisionError
    assert "look" in caught.value.__notes__[0]


def test_width_and_keyboard_are_judged(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    page.write_text(f"{TOP}<a href='#a'>A</a><button>B</button><div style='overflow: auto'><p style='width: 900px'>")
    with Look(browser, page, screen=PHONE) as look:
        assert look.fits() and look.stops() == ["A", "B"] and not look.missed_by_keyboard()
    page.write_text(f"{TOP}<p style='width: 900px'>P</p><a href='#a' style='outline: 0'>A</a><button>B</button>")
    with Look(browser, page, screen=PHONE) as look:
        assert look.too_wide() == ["P.null"] and not look.fits()
        assert look.missed_by_keyboard() == ["A"]


def test_contrast_is_that_of_the_guideline() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)
