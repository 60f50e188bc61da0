"""A page as a visitor has it: what it says on the console, what it asks for, what fits, what the keyboard reaches.

    with Look(browser, path_or_address, screen=PHONE, scheme="dark") as look:
        look.page.get_by_role("button", name="stop").click()
        assert look.fits()

At the end of the block nothing may have been said on the console and nothing asked for but what `asks` begins with; by
default that is other files for a file, and its own origin for a service. The page never is waited for until it is
quiet, because a stream of events never is: wait for what should be seen.

Left out: the browser (`chromium`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

_MOST_SHOWN = 1500  # characters of a page that failed
_STOPS = "a[href], button, input, select, textarea, summary, [tabindex]"
_FIND_STOPS = f"""() => {{
    const found = [...document.querySelectorAll({_STOPS!r})].filter(one => one.tabIndex >= 0 && !one.disabled
        && one.checkVisibility({{ visibilityProperty: true }}) && one.getClientRects().length);
    window.lookStops = found;
    if (document.activeElement) document.activeElement.blur();
    return found.map(one => (one.getAttribute("aria-label") || one.textContent || one.tagName).trim().slice(0, 60));
}}"""
_FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one);
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return [window.lookStops.indexOf(one), one.matches(":focus-visible") && seen];
}"""
_TOO_WIDE = """() => [...document.querySelectorAll("body *")]
    .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1)
    .filter(one => { for (let up = one.parentElement; up; up = up.parentElement)
        if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(up).overflowX)) return false; return true; })
    .slice(0, 5).map(one => one.tagName + "." + one.getAttribute("class"))"""


@dataclass(frozen=True)
class Screen:
    """In CSS pixels; `dots`: of the device, for each of them."""

    width: int
    height: int
    dots: float = 1
    touch: bool = False


PHONE = Screen(390, 844, 2, touch=True)
DESKTOP = Screen(1280, 800)


@dataclass
class Look:
    browser: Browser
    address: Path | str
    screen: Screen = DESKTOP
    scheme: Literal["light", "dark"] = "light"
    script: bool = True
    asks: tuple[str, ...] = ()
    page: Page = field(init=False)
    said: list[str] = field(init=False, default_factory=list)
    asked: list[str] = field(init=False, default_factory=list)

    def __enter__(self) -> Look:
        screen = self.screen
        self._context = self.browser.new_context(
            viewport={"width": screen.width, "height": screen.height}, device_scale_factor=screen.dots,
            has_touch=screen.touch, color_scheme=self.scheme, java_script_enabled=self.script, reduced_motion="reduce",
        )  # fmt: skip
        address = self.address.as_uri() if isinstance(self.address, Path) else self.address
        parts = urlsplit(address)
        self._allowed = ("data:,", *(self.asks or (f"{parts.scheme}://{parts.netloc}/",)))
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self._listen()
        try:
            self.page.goto(address, wait_until="domcontentloaded")
        except BaseException:
            self._context.close()
            raise
        return self

    def _listen(self) -> None:
        page = self.page
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", self._dialog)
        page.on("popup", lambda other: self.said.append(f"popup {other.url}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))

    def _dialog(self, dialog: Dialog) -> None:
        self.said.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is not None:
                error.add_note(f"console: {self.said}; page {self.page.url}:\n{self._text()}")
        finally:
            self._context.close()
        if error is None:
            assert not self.said, f"the page said: {self.said}"
            away = [url for url in self.asked if not url.startswith(self._allowed)]
            assert not away, f"the page asked for: {away}"

    def _text(self) -> str:
        from playwright.sync_api import Error

        try:
            return self.page.inner_text("body", timeout=1000)[:_MOST_SHOWN]
        except Error as error:  # the note must not hide what failed, and the page may be gone
            return f"({error})"

    def css(self, selector: str, name: str) -> str:
        """The computed value of a property of the first element there is."""
        said = self.page.eval_on_selector(selector, f"e => getComputedStyle(e).getPropertyValue({name!r})")
        return str(said)

    def fits(self) -> bool:
        """Whether nothing is wider than the window, but what scrolls or is cut by itself."""
        narrow = bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
        return narrow and not self.too_wide()

    def too_wide(self) -> list[str]:
        found: list[str] = self.page.evaluate(_TOO_WIDE)
        return found

    def stops(self) -> list[str]:
        """Names of all that a visitor can act on, in the page's order."""
        found: list[str] = self.page.evaluate(_FIND_STOPS)
        return found

    def missed_by_keyboard(self) -> list[str]:
        """Those of `stops` that Tab doesn't reach with an outline around them, from the top of the page on.

        What scrolls takes the keyboard too, without being a stop.
        """
        names = self.stops()
        reached: list[int] = []
        for _ in range(2 * len(names) + 20):
            if len(reached) == len(names):
                break
            self.page.keyboard.press("Tab")
            at, outlined = self.page.evaluate(_FOCUSED)
            if at >= 0 and outlined:
                reached.append(at)
        missed = [name for at, name in enumerate(names) if at not in reached]
        return missed if missed or reached == sorted(reached) else ["(not in the page's order)"]

    def picture(self, path: Path, *, whole: bool = False, **more: Any) -> None:
        """A screenshot as PNG, of what is in view or of the whole page; nothing in it moves."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=whole, animations="disabled", caret="hide", **more)


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast of two colours, from 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
