"""Settings from environment variables, secrets also from files: how one is read, and what is said of a bad one.

Left out: which settings there are (`service.settings`, `service.working`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.forges.base import Secret
from service.webhooks.rates import Rate


class SettingsProblem(Exception):
    """A setting that can't be used; the message names it and says what would do."""


class Environment:
    """Reads settings; each raises SettingsProblem that names what it found."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str) -> str:
        return self._environment.get(name, "").strip() or default

    def maybe_number(self, name: str) -> int | None:
        text = self.text(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise SettingsProblem(f"{name} is {text!r}; give a number")
        return int(text)

    def number(self, name: str, default: int) -> int:
        found = self.maybe_number(name)
        return default if found is None else found

    def rate(self, name: str, default: Rate) -> Rate:
        """`60` a minute, or `60/120`: so many a minute, and so many at once."""
        text = self.text(name, "")
        if not text:
            return default
        parts = text.split("/")
        if len(parts) > 2 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            raise SettingsProblem(f"{name} is {text!r}; give requests a minute, such as 60, or 60/120 with a burst")
        return Rate(int(parts[0]), int(parts[-1]))

    def secret(self, name: str) -> Secret | None:
        file = self.text(f"{name}_FILE", "")
        if not file:
            text = self.text(name, "")
            return Secret(text) if text else None
        try:
            return Secret(Path(file).read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsProblem(f"{name}_FILE names {file}, which can't be read ({type(error).__name__})") from None
