"""Addresses of a forge's API as templates, so that numbers, names and branches don't become labels.

A part that isn't one of the words known here becomes `{}`: the number of templates is bounded, whatever is asked.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

_WORDS: Final = frozenset(
    {"access_tokens", "actions", "annotations", "app", "branches", "check-runs", "check-suites", "collaborators"}
    | {"comments", "commits", "contents", "git", "graphql", "heads", "installation", "installations", "issues", "jobs"}
    | {"labels", "logs", "permission", "pulls", "rate_limit", "reactions", "ref", "refs", "replies", "repos"}
    | {"repository", "requested_reviewers", "reviews", "statuses", "tags", "user", "users"}
)
_FREE: Final = {
    "collaborators": "{login}",
    "contents": "{path}",
    "heads": "{branch}",
    "user": "{id}",
    "users": "{login}",
}


@lru_cache(2048)
def route(path: str) -> str:
    """`/repos/octo/calc/issues/7/comments?page=2` -> `/repos/{owner}/{repo}/issues/{}/comments`."""
    parts = [part for part in urlsplit(path).path.split("/") if part]
    found: list[str] = []
    for place, part in enumerate(parts):
        before = parts[place - 1] if place else ""
        if parts[0] == "repos" and place in (1, 2):
            found.append("{owner}" if place == 1 else "{repo}")
        elif before in _FREE and not (before == "user" and part in _WORDS):
            found.append(_FREE[before])
            if before in ("contents", "heads"):  # the rest of the address is one name
                break
        else:
            found.append(part if part in _WORDS else "{}")
    return "/" + "/".join(found[:8])
