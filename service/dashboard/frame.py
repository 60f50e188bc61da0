"""What all pages share: the templates' environment, the policy of an answer, and how values are written.

    return await page(http, "runs.html", runs=runs)

Templates lie in `templates/` here and in `run/templates/`. Whatever a template prints is escaped, and characters that
can't be seen or that steer the line are written out. Left out: who may look (`access`), and files (`static`).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fastapi import Request as Http
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agent.visible import visible
from service.dashboard.static import address_of
from service.dashboard.tokens import form_token

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_HERE: Final = Path(__file__).parent
_NONE: Final = "–"


async def page(http: Http, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A whole page. Beside `context` a template has `visitor` (None before login), `form_token` and `here`, a path."""
    known = {"visitor": getattr(http.state, "visitor", None), "form_token": form_token(http), "here": local(http)}
    text = await asyncio.to_thread(ENVIRONMENT.get_template(template).render, **{**known, **context})
    return HTMLResponse(text, status, HEADERS)


def local(http: Http) -> str:
    """The path that was asked for, with its query."""
    return http.url.path + (f"?{http.url.query}" if http.url.query else "")


# -- how values are written ---------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """1234567 as 1,234,567."""
    return _NONE if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """1234567 as 1.2 M."""
    if value is None:
        return _NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value:.0f}"


def percent(share: float | None, digits: int = 0) -> str:
    return _NONE if share is None else f"{100 * share:.{digits}f} %"


def money(dollars: float | None) -> str:
    return _NONE if dollars is None else f"${dollars:,.2f}"


def duration(seconds: float | None) -> str:
    """3725 as 1 h 2 min."""
    if seconds is None:
        return _NONE
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def moment(text: str | float | None) -> datetime | None:
    """A time as the store or a log has it; None for none, or for what isn't one."""
    try:
        if isinstance(text, int | float):
            return datetime.fromtimestamp(text, UTC)
        return datetime.fromisoformat(text) if text else None
    except (ValueError, OverflowError, OSError):
        return None


def clock(text: str | float | None) -> str:
    """2026-01-31 14:05 UTC."""
    found = moment(text)
    return found.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if found else _NONE


def between(begin: str | float | None, end: str | float | None = None) -> float | None:
    """Seconds between two times; without the second, until now."""
    first, last = moment(begin), moment(end) if end else datetime.now(UTC)
    return (last - first).total_seconds() if first and last else None


def ago(text: str | float | None) -> str:
    """5 min ago."""
    seconds = between(text)
    return _NONE if seconds is None else "just now" if seconds < 5 else f"{duration(seconds)} ago"


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader([_HERE / "templates", _HERE / "run" / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters |= {
        "visible": visible, "number": number, "short": short, "percent": percent, "money": money,
        "duration": duration, "clock": clock, "ago": ago, "between": between,
    }  # fmt: skip
    made.globals["static"] = address_of
    return made


ENVIRONMENT: Final = _environment()
