"""What the service's commands need beyond the core: said in one sentence, before anything is started."""

from __future__ import annotations

import importlib.util
import sys
from typing import Final

import click

NEEDED: Final = ("fastapi", "uvicorn", "dbos", "sqlalchemy", "cryptography", "jinja2", "pygments", "prometheus_client",
                 "opentelemetry")  # fmt: skip


def need_service() -> None:
    """Ends the command with code 6 where the extra `service` isn't installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        what = f"the service needs more packages (missing: {', '.join(missing)})"
        click.echo(f"Error: {what}: pip install 'patchwright[service]'", err=True)
        sys.exit(6)
