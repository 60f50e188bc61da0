"""Pages made of escaped text: elements, the frame of a page with its policy, its style and its one small script.

Text is escaped because it is text: only what `element` made is taken as markup. A page asks for nothing from outside
and runs no script but its own, which it names by hash. Left out: what stands on a page.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Final

from agent.visible import visible


class Html(str):
    """Markup that was made here and needs no escaping."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]
_VOID: Final = frozenset({"meta", "link", "br", "hr", "input"})
_SHAPES: Final = frozenset({"line", "rect", "path", "circle"})  # not void to HTML: unclosed, they hold what follows
_NAME: Final = re.compile(r"[a-z][a-zA-Z0-9-]*")


def escaped(text: str) -> Html:
    """Text as it may stand in an element or an attribute; what can't be seen or steers the line is written out."""
    return Html(html.escape(visible(text), quote=True))


def element(tag: str, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """`<tag ...>children</tag>`. An attribute's name may end in `_` or hold `_` for `-`; None and False leave it out.

    ValueError for a name that is none, or an address of a script.
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(name) or name.startswith("on") or name == "style":
            raise ValueError(f"no attribute of ours: {name}")
        if name == "href" and not _safe_address(str(value)):
            raise ValueError(f"no address of ours: {str(value)[:60]}")
        if value is True:
            parts.append(f" {name}")
        elif value is not None and value is not False:
            parts.append(f' {name}="{escaped(_number(value) if isinstance(value, float) else str(value))}"')
    parts.append("/>" if tag in _SHAPES else ">")
    if tag not in _VOID | _SHAPES:
        parts += [*_written(children), f"</{tag}>"]
    return Html("".join(parts))


def _safe_address(value: str) -> bool:
    """Within the page, or a file beside it: no scheme, no other host."""
    return value == "data:," or not (":" in value or value.startswith(("/", "\\")) or "//" in value)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _written(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str):
            yield escaped(child)
        elif isinstance(child, int):
            yield str(child)
        elif child is not None:
            yield from _written(child)


def joined(*children: Child) -> Html:
    """Several pieces as one."""
    return Html("".join(_written(children)))


def _asset(name: str) -> str:
    return files("evals.report").joinpath(name).read_text(encoding="utf-8")


def _named(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def document(title: str, *body: Child, script: bool = True) -> str:
    """A whole page. Its policy allows its own style and script by their hashes and no request at all."""
    style, code = _asset("page.css"), _asset("page.js") if script else ""
    runs = _named(code) if script else "'none'"
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_named(style)}",
            f"script-src {runs}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Html(style)),
    )
    code_part = element("script", Html(code)) if script else None
    return f"<!doctype html>\n{element('html', head, element('body', *body, code_part), lang='en')}\n"
