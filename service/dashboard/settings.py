"""What the dashboard is told beside what the service is told: addresses to link to and to ask, and where to look.

Left out: reading the environment for the rest of the web process (`service.settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from agent.forges.base import Secret
from agent.runs import home
from service.environment import Environment

GITHUB_API: Final = "https://api.github.com"


def evaluations_folder() -> Path:
    """Where `agent eval run` keeps its runs."""
    return home() / "evals"


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """Addresses have no `/` at their end; an empty one isn't known."""

    url: str = ""
    """The service's own, as visitors see it."""
    forge: str = "https://github.com"
    """Where the forge's pages are."""
    model: str = ""
    """As the work process is told."""
    jobs: Secret | None = None
    """The queue's database, for the workers in it."""
    evaluations: Path = field(default_factory=evaluations_folder)
    at_once: int = 2
    per_repository: int = 2

    def issue(self, slug: str, number: int) -> str:
        """The address of an issue; empty for one that can't be linked."""
        return self._page(slug, "issues", number)

    def pull(self, slug: str, number: int) -> str:
        return self._page(slug, "pull", number)

    def _page(self, slug: str, kind: str, number: int) -> str:
        owner, _, name = slug.partition("/")
        if not (self.forge and owner and name) or number < 1 or {owner, name} & {".", ".."}:
            return ""
        return f"{self.forge}/{quote(owner, safe='')}/{quote(name, safe='')}/{kind}/{number}"


def dashboard_settings(environment: Mapping[str, str], jobs: Secret) -> DashboardSettings:
    """Raises SettingsProblem."""
    reader = Environment(environment)
    evaluations = reader.text("PATCHWRIGHT_EVALUATIONS", "")
    return DashboardSettings(
        url=_http(reader.text("PATCHWRIGHT_URL", "")),
        forge=forge_pages(reader.text("PATCHWRIGHT_GITHUB_API", GITHUB_API)),
        model=reader.text("PATCHWRIGHT_MODEL", "http://127.0.0.1:30000"),
        jobs=jobs,
        evaluations=Path(evaluations) if evaluations else evaluations_folder(),
        at_once=reader.number("PATCHWRIGHT_RUNS_AT_ONCE", 2),
        per_repository=reader.number("PATCHWRIGHT_RUNS_PER_REPOSITORY", 2),
    )


def forge_pages(api: str) -> str:
    """Where a person finds what `api` gives: `https://HOST/api/v3` is that of `https://HOST`."""
    found = _http(api)
    return "https://github.com" if found == GITHUB_API else found.removesuffix("/api/v3")


def _http(address: str) -> str:
    """An address that may be linked to, or nothing."""
    parts = urlsplit(address.rstrip("/"))
    return parts.geturl() if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc else ""
