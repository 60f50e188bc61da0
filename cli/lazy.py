"""A group of commands of which each is imported only when it is called, so that help and start stay quick."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

Entry = tuple[str, str, str]
"""Module, attribute, one line for the help, so that listing commands loads none of them."""


class LazyGroup(click.Group):
    """A group over a table of names; the table's order is the help's."""

    def __init__(self, *args: Any, table: Mapping[str, Entry], **options: Any) -> None:
        super().__init__(*args, **options)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, attribute, _ = self._table[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in self._table.items()])
