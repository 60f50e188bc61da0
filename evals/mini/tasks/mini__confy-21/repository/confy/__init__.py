"""Reads configuration files."""

from confy.reader import Config, ConfigError, load, parse

__all__ = ["Config", "ConfigError", "load", "parse"]
