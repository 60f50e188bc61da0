"""`agent service token`: tokens for the API, shown once when they are made.

Left out: what a scope allows (`service.api.access`).
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from service.store import Store


@click.group()
def token() -> None:
    """Tokens for programs that use the service's API."""


def _store() -> Store:
    try:
        from service.settings import database_of
        from service.store import Store, StoreError
    except ImportError as error:
        click.echo(f"Error: the service needs more packages ({error}): pip install 'patchwright[service]'", err=True)
        sys.exit(6)
    try:
        return Store.open(database_of(os.environ).reveal())
    except StoreError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(9)


@token.command()
@click.argument("name")
@click.option("--write", is_flag=True, help="May submit and cancel runs, too.")
@click.option("--json", "as_json", is_flag=True, help="An object with name, scopes and token.")
def make(name: str, write: bool, as_json: bool) -> None:
    """Make a token called NAME and print it: this is the only time that it is seen."""
    store = _store()
    from service.store.tokens import make_token

    scopes = ["runs:read", *(["runs:write"] if write else [])]
    made = make_token(store, name, scopes).reveal()
    store.close()
    click.echo(json.dumps({"name": name, "scopes": scopes, "token": made}) if as_json else made)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_tokens(as_json: bool) -> None:
    """All tokens: their ids, names, scopes and state."""
    store = _store()
    from service.store.tokens import tokens

    found = [
        {"id": one.id, "name": one.name, "scopes": sorted(one.scopes), "created": one.created, "revoked": one.revoked}
        for one in tokens(store)
    ]
    store.close()
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for one in found:
        state = f"revoked {one['revoked']}" if one["revoked"] else f"since {one['created']}"
        click.echo(f"{one['id']}  {' '.join(one['scopes'] or []):<22} {state}  {one['name']}")


@token.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """Revoke a token by its id."""
    store = _store()
    from service.store.tokens import revoke_token

    done = revoke_token(store, token_id)
    store.close()
    if not done:
        click.echo(f"Error: there is no valid token {token_id!r}: `agent service token list` shows them", err=True)
        sys.exit(6)
