"""`agent model script`: a server whose model is a file of turns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.models.scripted import ScriptedServer
    from runtime.models.scripted_delivery import ServedRequest


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes any free one.")
@click.option("--name", help="Name that the server gives its model, instead of the script's.")
@click.option("--token-delay", type=click.FloatRange(min=0), help="Seconds before every token.")
@click.option(
    "--dialect",
    type=click.Choice(["sglang", "vllm", "llamacpp", "chat"]),
    default="sglang",
    show_default=True,
    help="Whose server it acts as.",
)
@click.option("--incremental", is_flag=True, help="Stream deltas instead of all ids so far.")
@click.option("--stream-interval", type=click.IntRange(min=1), default=1, help="Tokens per streamed event.")
@click.option("--quiet", is_flag=True, help="Don't print a line per request.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def script(
    file: Path,
    host: str,
    port: int,
    name: str | None,
    token_delay: float | None,
    dialect: str,
    incremental: bool,
    stream_interval: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Serve the turns in FILE as if a model wrote them.

    The server answers as SGLang does (/generate and /v1/chat/completions), or as another kind of server, until it
    is interrupted. The format of FILE is described in docs/scripted-model.md.
    """
    import asyncio
    from dataclasses import replace

    from runtime.models.script_file import ScriptError, load_script
    from runtime.models.scripted import ScriptedServer

    try:
        loaded = load_script(file)
    except ScriptError as error:
        raise click.ClickException(str(error)) from error
    loaded = replace(
        loaded,
        name=name or loaded.name,
        token_delay=loaded.token_delay if token_delay is None else token_delay,
    )
    server = ScriptedServer(
        loaded,
        host=host,
        port=port,
        dialect=dialect,
        incremental=incremental,
        stream_interval=stream_interval,
        record=False,
        on_done=None if quiet else _RequestLine(as_json),
    )
    asyncio.run(_serve(server, as_json))


async def _serve(server: ScriptedServer, as_json: bool) -> None:
    import asyncio
    import json
    import signal

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await server.start()
    except OSError as error:
        raise click.ClickException(f"The server can't listen: {error}. Give another --host or --port.") from error
    if as_json:
        click.echo(json.dumps({"event": "listening", "url": server.url, "model": server.script.name}))
    else:
        click.echo(f"listening on {server.url}")
    await ended.wait()
    await server.close()


class _RequestLine:
    """Prints a line for each request that was answered."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, served: ServedRequest) -> None:
        import json

        shown = {
            "event": "request",
            "path": served.path,
            "rid": served.rid,
            "turn": served.turn,
            "prompt_tokens": len(served.prompt_ids),
            "cached_tokens": served.cached_tokens,
            "completion_tokens": served.written,
            "fault": served.fault,
            "outcome": served.outcome,
            "error": served.error,
        }
        if self._as_json:
            click.echo(json.dumps(shown))
        else:
            given = (f"{key}={value}" for key, value in shown.items() if key != "event" and value not in ("", None))
            click.echo(" ".join(given))
