"""What the bot is to GitHub: its permissions and events, and the manifest that registers an App which has just these.

Pure values, written down once; the guide and the tests compare with them. Left out: registering (`service.register`).
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlsplit

PERMISSIONS: Final = {
    "actions": "read",  # logs of failed checks
    "checks": "read",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
}
EVENTS: Final = (
    "check_run",
    "issue_comment",
    "issues",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
)
"""`installation` and `installation_repositories` come to every App."""
GITHUB: Final = "https://github.com"


def manifest(name: str, address: str, back: str) -> dict[str, Any]:
    """`address`: of the service, as GitHub reaches it; `back`: where the browser is sent with the code."""
    return {
        "name": name,
        "url": address,
        "description": "Solves issues with a model of our own, and opens draft pull requests.",
        "public": False,
        "redirect_url": back,
        "hook_attributes": {"url": f"{address}/webhooks/github", "active": True},
        "default_permissions": PERMISSIONS,
        "default_events": list(EVENTS),
    }


def api_of(github: str) -> str:
    """The API's address for that of the pages."""
    return "https://api.github.com" if github == GITHUB else f"{github}/api/v3"


def form_of(github: str, organization: str) -> str:
    """Where a manifest is sent to, for an organization or ("") for the person who is logged in."""
    owner = f"/organizations/{quote(organization, safe='')}" if organization else ""
    return f"{github}{owner}/settings/apps/new"


def is_address(text: str) -> bool:
    """Whether it is a whole address without anything behind its host; plain HTTP on the loopback only."""
    try:
        parts = urlsplit(text)
        local = parts.hostname in ("127.0.0.1", "localhost")
        whole = bool(parts.hostname) and parts.username is None and (parts.port or 1) > 0
    except ValueError:
        return False
    return whole and not (parts.path or parts.query or parts.fragment) and parts.scheme in ("https", *["http"] * local)
