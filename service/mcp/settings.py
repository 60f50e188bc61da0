"""Which service an editor's MCP server asks, and with which token: environment variables, never arguments.

Left out: asking (`service.mcp.client`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.forges.base import Secret
from service.environment import Environment, SettingsProblem


@dataclass(frozen=True, slots=True)
class McpSettings:
    """`url`: of the service, without a slash at its end."""

    url: str
    token: Secret


def from_environment(environment: Mapping[str, str]) -> McpSettings:
    """Raises SettingsProblem."""
    reader = Environment(environment)
    url = reader.text("PATCHWRIGHT_URL", "").rstrip("/")
    if not url:
        raise SettingsProblem("PATCHWRIGHT_URL is missing: give the service's address, such as https://bot.example")
    _check(url)
    token = reader.secret("PATCHWRIGHT_TOKEN")
    if token is None:
        raise SettingsProblem(
            "PATCHWRIGHT_TOKEN_FILE is missing: name a file with a token, "
            "which `agent service token make NAME --write` prints where the service runs"
        )
    return McpSettings(url, token)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, usable = parts.hostname or "", parts.scheme in ("http", "https") and not parts.username
    except ValueError:
        host, usable = "", False
    if not host or not usable or parts.query or parts.fragment:
        raise SettingsProblem(f"PATCHWRIGHT_URL is {url[:200]!r}; give an address such as https://bot.example")
    if parts.scheme == "http" and not _loopback(host):
        raise SettingsProblem(
            f"PATCHWRIGHT_URL is {url[:200]!r}, and the token would be read on its way there: use https, or a tunnel "
            "to 127.0.0.1"
        )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
