"""The App installed on an account or taken away from it, and repositories added to an installation or removed.

Left out: permissions that were changed; a run that lacks one says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.webhooks.model import WishKind
from service.webhooks.values import Value

_MOST: Final = 1000  # repositories; those beyond them are found when something is asked in them
_KINDS: Final = {
    "created": WishKind.INSTALLED,
    "unsuspend": WishKind.INSTALLED,
    "deleted": WishKind.REMOVED,
    "suspend": WishKind.REMOVED,
}


@dataclass(frozen=True, slots=True)
class Changed:
    """`kind` is None when there is nothing to do. No repositories: all that the installation had."""

    id: int
    at: str
    kind: WishKind | None
    repositories: tuple[tuple[int, str], ...] = ()
    why_not: str = ""


def read_installation(action: str, payload: Value) -> Changed:
    installation = payload.at("installation")
    number, at = installation.number("id"), installation.time("updated_at", "created_at")
    kind = _KINDS.get(action)
    if kind is None:
        return Changed(number, at, None, why_not=f"an installation with {action or 'a change'} asks for nothing")
    if kind is WishKind.INSTALLED and installation.has("suspended_at"):
        return Changed(number, at, None, why_not="the installation is suspended")
    given = _repositories(payload, "repositories") if kind is WishKind.INSTALLED else ()
    return Changed(number, at, kind, given)


def read_repositories(action: str, payload: Value) -> Changed:
    installation = payload.at("installation")
    number, at = installation.number("id"), installation.time("updated_at", "created_at")
    kind = {"added": WishKind.INSTALLED, "removed": WishKind.REMOVED}.get(action)
    changed = _repositories(payload, f"repositories_{action}") if kind else ()
    if not changed:  # none would mean all of them
        return Changed(number, at, None, why_not="no repositories are named")
    if kind is WishKind.INSTALLED and installation.has("suspended_at"):
        return Changed(number, at, None, why_not="the installation is suspended")
    return Changed(number, at, kind, changed)


def _repositories(payload: Value, key: str) -> tuple[tuple[int, str], ...]:
    return tuple((one.number("id"), one.slug("full_name")) for one in payload.each(key, _MOST))
