"""What the service is told: environment variables, one frozen value made of them. Secrets don't show in it.

A secret may also lie in a file, named by the same variable with `_FILE`, as container engines hand them over. Left out:
what the forge and the runs are told (their own modules), and what repositories say about themselves (`agent.config`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.forges.base import Secret
from agent.runs import home
from service.dashboard.settings import DashboardSettings, dashboard_settings
from service.environment import Environment, SettingsProblem
from service.telemetry.settings import MetricsSettings, metrics_settings
from service.webhooks.model import Myself
from service.webhooks.rates import Rate

SHORTEST_SECRET: Final = 16  # characters
PER_REPOSITORY: Final = Rate(60, 120)
PER_SENDER: Final = Rate(30, 60)


def database_of(environment: Mapping[str, str]) -> Secret:
    """Where requests are kept. Raises SettingsProblem."""
    named = Environment(environment).secret("PATCHWRIGHT_DATABASE")
    return named or Secret(f"sqlite:///{home() / 'service.sqlite'}")


def jobs_database(database: Secret) -> Secret:
    """The queue's, beside that of the requests: a file of its own, or the same Postgres."""
    url = database.reveal()
    return Secret(url.removesuffix(".sqlite") + "-jobs.sqlite" if url.startswith("sqlite:") else url)


def runs_folder() -> Path:
    """A folder for each attempt at an issue."""
    return home() / "service" / "runs"


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Sizes in bytes, times in seconds."""

    database: Secret
    """`sqlite:///PATH` or `postgresql://...`, with its password."""
    webhook_secrets: tuple[Secret, ...]
    """The newest first; the second holds while it is replaced."""
    me: Myself = field(default_factory=Myself)
    host: str = "127.0.0.1"
    port: int = 8117
    max_body: int = 5 * 1024 * 1024
    max_bodies: int = 64 * 1024 * 1024
    """Of all that are being read at once."""
    header_seconds: float = 10.0
    """From a connection's first byte, or a request's, to the end of its headers."""
    body_seconds: float = 20.0
    """For the whole body, however it trickles."""
    connections: int = 500
    runs: Path = field(default_factory=runs_folder)
    """Where the work process keeps its runs; read here."""
    per_repository: Rate = PER_REPOSITORY
    """New wishes a minute, and how many of them at once."""
    per_sender: Rate = PER_SENDER
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)


def from_environment(environment: Mapping[str, str]) -> ServiceSettings:
    """Raises SettingsProblem."""
    reader = Environment(environment)
    name = reader.text("PATCHWRIGHT_BOT_NAME", "patchwright")
    database = database_of(environment)
    return ServiceSettings(
        database=database,
        webhook_secrets=_webhook_secrets(reader),
        me=Myself(
            name=name,
            id=reader.maybe_number("PATCHWRIGHT_BOT_ID"),
            label=reader.text("PATCHWRIGHT_BOT_LABEL", name),
            branches=reader.text("PATCHWRIGHT_BOT_BRANCHES", "patchwright/"),
            app=reader.maybe_number("PATCHWRIGHT_GITHUB_APP_ID"),
        ),
        host=reader.text("PATCHWRIGHT_HOST", "127.0.0.1"),
        port=reader.number("PATCHWRIGHT_PORT", 8117),
        per_repository=reader.rate("PATCHWRIGHT_RATE_REPOSITORY", PER_REPOSITORY),
        per_sender=reader.rate("PATCHWRIGHT_RATE_SENDER", PER_SENDER),
        dashboard=dashboard_settings(environment, jobs_database(database)),
        metrics=metrics_settings(environment),
    )


def _webhook_secrets(reader: Environment) -> tuple[Secret, ...]:
    newest = reader.secret("PATCHWRIGHT_WEBHOOK_SECRET")
    if newest is None:
        raise SettingsProblem("PATCHWRIGHT_WEBHOOK_SECRET is missing: give the secret that the webhook was made with")
    older = reader.secret("PATCHWRIGHT_WEBHOOK_SECRET_OLD")
    found = (newest, older) if older else (newest,)
    if any(len(secret.reveal()) < SHORTEST_SECRET for secret in found):
        raise SettingsProblem(f"a webhook secret has fewer than {SHORTEST_SECRET} characters; make a longer one")
    return found


__all__ = ["ServiceSettings", "SettingsProblem", "from_environment"]
