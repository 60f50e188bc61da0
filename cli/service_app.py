"""`agent service app`: registers the bot at GitHub by way of a page in the browser, and keeps what it gives.

Left out: the pages (`service.register`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--url", required=True, help="The service's own address, as GitHub reaches it: https://bot.example.org.")
@click.option("--name", default="patchwright", show_default=True, help="The App's name; GitHub has each only once.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("/etc/patchwright"),
              show_default=True, help="Where key, webhook secret and environment file are put.")  # fmt: skip
@click.option("--organization", default="", help="Whose App it is.  [default: whoever is logged in]")
@click.option("--github", default="https://github.com", show_default=True, help="Or an Enterprise server's address.")
@click.option("--port", type=click.IntRange(0, 65535), default=8118, show_default=True,
              help="Of the page on the loopback; 0 for any.")  # fmt: skip
def app(url: str, name: str, folder: Path, organization: str, github: str, port: int) -> None:
    """Register a GitHub App with the permissions and events that the bot needs, and keep its key.

    Prints the address of a page; the rest is two clicks in the browser.
    """
    try:
        from service.github_app import is_address
        from service.register import ENVIRONMENT, RegistrationProblem, Wanted, register
    except ImportError as error:
        click.echo(f"Error: the service needs more packages ({error}): pip install 'patchwright[service]'", err=True)
        sys.exit(6)
    addresses = [one.rstrip("/") for one in (url, github)]
    for one in addresses:
        if not is_address(one):
            click.echo(f"Error: {one!r} is no address such as https://bot.example.org", err=True)
            sys.exit(6)
    wanted = Wanted(name, addresses[0], folder.absolute(), addresses[1], organization)
    try:
        made = register(wanted, port, click.echo)
    except RegistrationProblem as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(6)
    except KeyboardInterrupt:
        sys.exit(130)
    click.echo(f"The App {made['slug']} is there. Its settings lie in {wanted.folder / ENVIRONMENT}.")
    click.echo(f"Install it on the repositories: {made.get('html_url', '')}/installations/new")
