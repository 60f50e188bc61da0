"""What is told about metrics: who may have them, and where a worker serves its own.

Left out: what logs and traces are told (`service.telemetry.logs`, `service.telemetry.setup`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.forges.base import Secret
from service.environment import Environment, SettingsProblem

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_SHORTEST: Final = 16  # characters


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """`port`: a worker's; None: none. `repositories`: whether their names may be labels."""

    token: Secret | None = None
    repositories: bool = False
    host: str = "127.0.0.1"
    port: int | None = None


def metrics_settings(environment: Mapping[str, str]) -> MetricsSettings:
    """Raises SettingsProblem."""
    reader = Environment(environment)
    token = reader.secret("PATCHWRIGHT_METRICS_TOKEN")
    if token and len(token.reveal()) < _SHORTEST:
        raise SettingsProblem(f"PATCHWRIGHT_METRICS_TOKEN has fewer than {_SHORTEST} characters; make a longer one")
    host, port = (
        reader.text("PATCHWRIGHT_WORKER_METRICS_HOST", "127.0.0.1"),
        reader.maybe_number("PATCHWRIGHT_WORKER_METRICS_PORT"),
    )
    if port is not None and not token and host not in _LOOPBACK:
        raise SettingsProblem(
            f"PATCHWRIGHT_WORKER_METRICS_HOST is {host}, which others can reach: give PATCHWRIGHT_METRICS_TOKEN as well"
        )
    return MetricsSettings(token, reader.text("PATCHWRIGHT_METRICS_REPOSITORIES", "") == "1", host, port)
