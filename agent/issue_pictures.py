"""Pictures that an issue links to, for models that see: screenshots beside the text.

Three kinds of links are followed: data URIs in the text itself, files in the folder of the issue's own file, and
GitHub's hosts for what its users upload. Anything else stays a link in the text: whoever writes an issue must not
choose which addresses this machine asks, nor which of its files a model server gets (docs/decisions/0017-pictures.md).
Left out: what may be shown (`tools.pictures`), and videos.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from tools.pictures import MOST_BYTES, NotAPicture, Picture, no_room, picture_of

MOST_IN_ISSUE: Final = 8
_FETCH_SECONDS: Final = 20.0
_MOST_REDIRECTS: Final = 3

_LINK: Final = re.compile(
    r"!\[(?P<alt>[^\]\n]{0,500})\]\(\s*+<?(?P<target>[^)\s>]++)>?(?:\s++[\"'][^\n]{0,500}?[\"'])?\s*+\)"
    r"|<img\s(?P<tag>[^>]*+)>",
    re.IGNORECASE,
)  # nothing is tried in two ways: whoever writes an issue chooses the text
_SOURCE: Final = re.compile(r"\bsrc\s*+=\s*+[\"']([^\"']+)[\"']", re.IGNORECASE)
_DATA: Final = re.compile(r"data:image/[a-z+.-]+;base64,(.*)", re.IGNORECASE | re.DOTALL)
_UPLOADS: Final = re.compile(
    r"https://(?:(?:private-)?user-images\.githubusercontent\.com/|github\.com/user-attachments/assets/)\S+"
)
_BEHIND_UPLOADS: Final = re.compile(
    r"https://(?:[a-z0-9-]+\.githubusercontent\.com|github-production-user-asset-[a-z0-9]+\.s3\.amazonaws\.com)/\S+"
)

Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Illustrated:
    """An issue's text with a mark in place of each link, and what the marks stand for."""

    text: str
    pictures: tuple[Picture, ...]


class _NotShown(Exception):
    """Why a link is not followed; the text goes behind its address."""


async def illustrated(text: str, folder: Path | None, fetch: Fetch | None = None) -> Illustrated:
    """`text` with its pictures. `folder` is where the issue's file lies, None for one that is no file here.

    Raises nothing for what an issue says: a picture that can't be shown is said so in its place.
    """
    pieces, pictures, done = list[str](), list[Picture](), 0
    for link in _LINK.finditer(text):
        target = link["target"] or _source(link["tag"])
        if target is None:
            continue
        try:
            picture = await _picture(target, folder, fetch or _fetch)
            if why := _no_room(pictures, picture):
                raise _NotShown(why)
            pictures.append(picture)
            mark = f"[picture {len(pictures)}{_named(link['alt'])}]"
        except (_NotShown, NotAPicture) as error:
            shown = target if len(target) < 300 else target[:60] + "..."
            mark = f"[a picture that is not shown: {shown} {error}]"
        pieces += [text[done : link.start()], mark]
        done = link.end()
    return Illustrated("".join([*pieces, text[done:]]), tuple(pictures))


def _source(tag: str) -> str | None:
    found = _SOURCE.search(tag)
    return found[1] if found else None


def _named(alt: str | None) -> str:
    name = (alt or "").strip()
    return f": {name}" if name and name.lower() not in ("image", "img", "screenshot") else ""


def _no_room(pictures: list[Picture], more: Picture) -> str | None:
    if len(pictures) >= MOST_IN_ISSUE:
        return f"comes behind {MOST_IN_ISSUE} others, which is as many as are shown"
    return no_room(len(pictures), sum(len(one.image.data) for one in pictures), len(more.image.data))


async def _picture(target: str, folder: Path | None, fetch: Fetch) -> Picture:
    if target[:5].lower() == "data:":
        return picture_of(_data(target))
    if _UPLOADS.fullmatch(target):
        return picture_of(await fetch(target))
    if "://" in target or target.startswith("//"):
        raise _NotShown("is on a host that pictures are not fetched from")
    return picture_of(_file(target, folder))


def _data(target: str) -> bytes:
    found = _DATA.fullmatch(target)
    if found is None:
        raise _NotShown("is no picture in base64")
    try:
        return base64.b64decode(unquote(found[1]), validate=True)
    except (binascii.Error, ValueError):
        raise _NotShown("is no valid base64") from None


def _file(target: str, folder: Path | None) -> bytes:
    """A file in or below the folder; links that lead out of it don't count."""
    if folder is None:
        raise _NotShown("is a file's name, and the issue is no file that it could lie beside")
    try:
        home = folder.resolve()
        path = (home / unquote(target.partition("#")[0].partition("?")[0])).resolve()
        if not path.is_relative_to(home):
            raise _NotShown("lies outside of the issue's folder")
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, ValueError):
        raise _NotShown("can't be read") from None


async def _fetch(url: str) -> bytes:
    """The bytes at an address of GitHub's uploads. Sends no token. Raises _NotShown."""
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=_FETCH_SECONDS, follow_redirects=False) as client:
            for _ in range(_MOST_REDIRECTS + 1):
                async with client.stream("GET", url) as answer:
                    if answer.is_redirect:
                        url = urljoin(url, answer.headers.get("location", ""))
                        if not may_follow(url):
                            raise _NotShown(f"leads to {urlsplit(url).hostname}, which is not asked")
                        continue
                    if answer.status_code != 200:
                        raise _NotShown(f"could not be fetched (status {answer.status_code})")
                    data = bytearray()
                    async for chunk in answer.aiter_bytes():
                        data += chunk
                        if len(data) > MOST_BYTES:
                            break
                    return bytes(data)
    except httpx2.HTTPError as error:
        raise _NotShown(f"could not be fetched ({type(error).__name__})") from None
    raise _NotShown("leads from one address to the next")


def may_follow(url: str) -> bool:
    """Whether GitHub's upload addresses may lead there."""
    return bool(_UPLOADS.fullmatch(url) or _BEHIND_UPLOADS.fullmatch(url))
