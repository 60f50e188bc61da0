"""`agent service mcp`: check the settings, then speak MCP on standard input and output.

Left out: the tools (`service.mcp`).
"""

from __future__ import annotations

import os
import sys

import click


@click.command()
def mcp() -> None:
    """Speak MCP over stdio, so that an editor can have issues solved by a service.

    PATCHWRIGHT_URL is the service's address, PATCHWRIGHT_TOKEN_FILE a file with a token of its API: docs/mcp.md.
    """
    import asyncio

    try:
        from service.environment import SettingsProblem
        from service.mcp.server import serve
        from service.mcp.settings import from_environment
    except ImportError as error:
        click.echo(f"Error: this needs more packages ({error}): pip install 'patchwright[mcp]'", err=True)
        sys.exit(6)
    try:
        settings = from_environment(os.environ)
    except SettingsProblem as problem:
        click.echo(f"Error: {problem} (docs/mcp.md)", err=True)
        sys.exit(6)
    asyncio.run(serve(settings))
