"""`agent model`: models and the servers that serve them; a line per command, each in a module of its own."""

from __future__ import annotations

import click

from cli.lazy import Entry, LazyGroup

COMMANDS: dict[str, Entry] = {
    "list": ("cli.model_list", "list_models", "Models: sizes, cache, prices, and what fits this machine."),
    "show": ("cli.model_list", "show_model", "All that is known of one model, with arithmetic and sources."),
    "serve": ("cli.model_serve", "serve", "Start a model server that fits this machine, and say why."),
    "script": ("cli.model_script", "script", "Serve the turns in a file as if a model wrote them."),
    "check": ("cli.model_check", "check", "See what a model server does, by a few short requests."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def model() -> None:
    """Models, and the servers that serve them."""
