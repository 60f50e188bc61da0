"""Files and texts as configurations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Union

from confy.values import Value, parse_value

Config = dict[str, dict[str, Value]]
"""Section -> name -> value."""

_SECTION = re.compile(r"\[\s*([A-Za-z][\w.-]*)\s*\]\s*(?:#.*)?")
_SETTING = re.compile(r"([A-Za-z][\w-]*)\s*=(.*)")


class ConfigError(ValueError):
    """A configuration that can't be read: where, and why."""

    def __init__(self, source: str, line: int, why: str) -> None:
        super().__init__(f"{source}:{line}: {why}")
        self.source = source
        self.line = line


def load(path: Union[str, Path]) -> Config:
    """The configuration in a file. Raises OSError and ConfigError."""
    path = Path(path)
    return parse(path.read_text(encoding="utf-8"), str(path))


def parse(text: str, source: str = "<text>") -> Config:
    """The configuration in a text; `source` is what errors call it."""
    config: Config = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if found := _SECTION.fullmatch(line):
            section = found[1]
            config.setdefault(section, {})
        elif found := _SETTING.fullmatch(line):
            config.setdefault(section, {})[found[1]] = _value(found[2], source, number)
        else:
            raise ConfigError(source, number, f"neither a section nor a setting: {line!r}")
    return config


def _value(text: str, source: str, number: int) -> Value:
    try:
        return parse_value(text)
    except ValueError as error:
        raise ConfigError(source, number, str(error)) from None
