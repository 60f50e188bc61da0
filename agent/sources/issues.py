"""Where an issue comes from: GitHub (number or URL), a file, standard input, or the text itself.

Left out: comments on the issue, and images in it (`agent.issue_pictures`).
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.ends import InputProblem

MAX_BYTES = 200_000  # of an issue's text; the rest would only fill the context
_URL = re.compile(r"https?://[^/\s]+/([^/\s]+/[^/\s]+)/(?:issues|pull)/(\d+)(?:[#?]\S*)?")
_PATH_LIKE = re.compile(r"\S*[/\\]\S*|\S+\.(md|txt|rst|patch|diff)")


@dataclass(frozen=True, slots=True)
class Issue:
    """The text that the model is given, and where it is from."""

    text: str
    source: str


async def resolve(text: str, *, slug: str | None) -> Issue:
    """What ISSUE means. `slug` is the repository's owner/name, if it has one. Raises InputProblem."""
    if text == "-":
        return _checked(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    if found := _URL.fullmatch(text):
        return await _from_github(found[1], int(found[2]))
    if re.fullmatch(r"#?\d+", text):
        if not slug:
            raise InputProblem(
                f"issue {text} has no repository to look in: the repository has no GitHub remote called origin; "
                "give the issue's URL, a file or the text"
            )
        return await _from_github(slug, int(text.lstrip("#")))
    if "\n" not in text and len(text) < 1024:
        path = Path(text).expanduser()
        if path.is_file():
            with path.open("rb") as file:
                return _checked(file.read(MAX_BYTES + 1), str(path))
        if path.is_dir():
            raise InputProblem(f"{path} is a folder: ISSUE is a number, a URL, a file, `-` or the text")
        if _PATH_LIKE.fullmatch(text):
            raise InputProblem(f"there is no file {text}: ISSUE is a number, a URL, a file, `-` or the text")
    return _checked(text.encode("utf-8", "replace"), "the command line")


def _checked(data: bytes, source: str) -> Issue:
    if len(data) > MAX_BYTES:
        raise InputProblem(f"the issue from {source} is longer than {MAX_BYTES} bytes: shorten it to what matters")
    text = data.decode("utf-8", "replace").strip()
    if not text:
        raise InputProblem(f"the issue from {source} is empty: there is nothing to solve")
    return Issue(text, source)


async def _from_github(slug: str, number: int) -> Issue:
    import httpx2

    api = os.environ.get("PATCHWRIGHT_GITHUB_API", "https://api.github.com").rstrip("/")
    url = f"{api}/repos/{slug}/issues/{number}"
    headers = {"Accept": "application/vnd.github+json"}
    if token := os.environ.get("GITHUB_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    try:
        async with httpx2.AsyncClient(timeout=30, follow_redirects=True) as client:
            answer = await client.get(url, headers=headers)
    except httpx2.HTTPError as error:
        raise InputProblem(f"{url} can't be reached ({error}): save the issue to a file and give that") from None
    if answer.status_code != 200:
        hint = "set GITHUB_TOKEN" if answer.status_code in (401, 403, 404) and not token else "check number and access"
        raise InputProblem(f"{url} answered {answer.status_code}: {hint}")
    return _from_record(answer.json(), f"{slug}#{number}")


def _from_record(record: Any, source: str) -> Issue:
    try:
        text = f"{record['title']}\n\n{record.get('body') or ''}"
    except (TypeError, KeyError, AttributeError):
        raise InputProblem(f"the answer for {source} is no issue: check the address of the API") from None
    return _checked(text.encode("utf-8", "replace"), source)
