"""`agent model serve`: find the hardware, choose, say why, start, wait, warm the cache, and stop with nothing left.

Left out: how a plan is made and a server kept (`runtime.serving`).
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runtime.serving.hardware import Hardware
    from runtime.serving.plan import Plan, Wish
    from runtime.serving.recipes import Recipe

DOES_NOT_FIT = 6  # the same number as "bad input" of a run: nothing was started
SERVER_FAILED = 7  # as "model failed"
REST = "patchwright.rest"


class _PassesOn(click.Command):
    """A command of which all words after `--` are options for another program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, rest = args, []
        if "--" in args:
            cut = args.index("--")
            own, rest = args[:cut], args[cut + 1 :]
        ctx.meta[REST] = tuple(rest)
        return super().parse_args(ctx, own)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- SERVER OPTIONS]"]


@click.command(
    cls=_PassesOn,
    epilog="Exit codes: 0 stopped on request, 2 the command line, 6 nothing that was asked for fits or is known, or a "
    "port is taken (nothing was started), 7 a server failed. What is chosen and why: docs/serving/README.md.",
)
@click.argument("model", required=False)
@click.option("--engine", type=click.Choice(["sglang", "vllm", "llamacpp"]), help="Use this server and no other.")
@click.option("--context", type=click.IntRange(min=256), help="Tokens that one request can have; YaRN beyond 262144.")
@click.option("--tp", type=click.IntRange(min=1), help="Cards that share one model; the rest serve replicas.")
@click.option("--prefer", type=click.Choice(["speed", "quality"]), default="speed", show_default=True)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Where to compute; default: cards if there are any.")
@click.option("--images/--no-images", default=None, help="Load the vision tower, or not; default: if there is room.")
@click.option("--mtp/--no-mtp", default=None, help="Multi-token prediction, or not; default: if there is room.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=30000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port of the server, or of the router before several.",
)
@click.option("--hardware", help="Plan for this instead of what is here: 1x24, 8x80@9.0, cpu:32, or a JSON file.")
@click.option("--dry-run", is_flag=True, help="Only show the plan and its commands.")
@click.option("--warm/--no-warm", default=True, show_default=True, help="Read the prompt that all runs share first.")
@click.option("--ready-timeout", default=3600.0, show_default=True, help="Seconds that a server has to answer.")
@click.option("--json", "as_json", is_flag=True, help="JSON, an object per line.")
@click.pass_context
def serve(
    ctx: click.Context, /, dry_run: bool, warm: bool, ready_timeout: float, as_json: bool, **options: Any
) -> None:
    """Serve MODEL: a catalog name, a hub id, a folder with a checkpoint, a GGUF file; default: the best that fits.

    Plans for the cards and the memory that are there, says why, starts the server, waits until it answers and keeps
    it until Ctrl-C. What follows `--` is handed to the model server after our own options.
    """
    from runtime.serving.hardware import HardwareUnknown, describe, detect
    from runtime.serving.plan import DoesNotFit, WishUnclear
    from runtime.serving.recipes import Address, make_recipe
    from runtime.serving.shown import as_json as plan_as_json
    from runtime.serving.shown import refused, shown

    try:
        hardware = describe(options["hardware"]) if options["hardware"] else detect()
        plan = _planned(_wish(options), hardware)
        address = Address(options["host"], options["port"])
        recipe = make_recipe(plan, address, _programs(), ctx.meta[REST])
    except (HardwareUnknown, WishUnclear) as error:
        _say_error(str(error), as_json)
        ctx.exit(DOES_NOT_FIT)
    except DoesNotFit as error:
        _say_error(str(error) if as_json else refused(error), as_json)
        ctx.exit(DOES_NOT_FIT)
    if as_json:
        click.echo(json.dumps({"event": "plan", **plan_as_json(plan, recipe)}))
    else:
        click.echo(shown(plan, recipe))
    if dry_run:
        return
    if hardware.described:
        _say_error("a plan for other hardware can only be shown: add --dry-run", as_json)
        ctx.exit(DOES_NOT_FIT)
    ctx.exit(_run(recipe, plan, ready_timeout, warm, as_json))


def _wish(options: dict[str, Any]) -> Wish:
    from runtime.serving.plan import Device, Engine, Preference, Wish

    return Wish(
        model=options["model"],
        prefer=Preference(options["prefer"]),
        engine=Engine(options["engine"]) if options["engine"] else None,
        device=Device(options["device"]) if options["device"] else None,
        context=options["context"],
        tp=options["tp"],
        images=options["images"],
        mtp=options["mtp"],
    )


def _planned(wish: Wish, hardware: Hardware) -> Plan:
    from dataclasses import replace

    from runtime.serving.planner import make_plan
    from runtime.serving.reasons import explain

    plan = make_plan(wish, hardware)
    return replace(plan, choices=explain(plan, wish))


def _programs() -> Any:
    """What the settings call the servers' programs; see docs/configuration.md."""
    from runtime.serving.recipes import Programs

    default, get = Programs(), os.environ.get
    python = get("PATCHWRIGHT_SGLANG_PYTHON", default.sglang_python)
    return Programs(
        sglang_python=python,
        vllm=get("PATCHWRIGHT_VLLM", default.vllm),
        llama_server=get("PATCHWRIGHT_LLAMA_SERVER", default.llama_server),
        router_python=get("PATCHWRIGHT_ROUTER_PYTHON", python),
    )


def _run(recipe: Recipe, plan: Plan, seconds: float, warm: bool, as_json: bool) -> int:
    import asyncio

    from runtime.serving.process import CannotStart, ServerFailed

    try:
        return asyncio.run(_serve(recipe, plan, seconds, warm, as_json))
    except CannotStart as error:
        _say_error(str(error), as_json)
        return DOES_NOT_FIT
    except ServerFailed as error:
        _say_error(str(error), as_json)
        return SERVER_FAILED


async def _serve(recipe: Recipe, plan: Plan, seconds: float, warm: bool, as_json: bool) -> int:
    """Until a signal comes or a server ends. A second signal doesn't wait for what is still running."""
    import asyncio
    import signal

    from agent.runs import home
    from runtime.serving.process import first_end, serving
    from runtime.serving.process import warm as warm_up

    def progress(role: str, doing: str) -> None:
        _say({"event": "progress", "server": role, "doing": doing}, f"{role}: {doing}", as_json)

    asked, hurry = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurry if asked.is_set() else asked).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    stopping = asyncio.create_task(asked.wait())

    async def up() -> int:
        async with serving(recipe, home() / "servers", progress, seconds=seconds, hurry=hurry) as servers:
            for command in recipe.servers if warm else ():
                done = await warm_up(command.address.url, plan.engine, _shared_prefix())
                progress(command.role, f"has the shared prefix{done.counted}, {done.seconds:.1f} s")
            _say({"event": "ready", "url": recipe.url}, f"ready: {recipe.url}", as_json)
            ended = await first_end(servers)
            raise ended.failure()

    running = asyncio.create_task(up())
    await asyncio.wait({stopping, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        stopping.cancel()
        return running.result()
    _say({"event": "stopping"}, "stopping", as_json)
    running.cancel()
    await asyncio.wait({running})
    return 0


def _shared_prefix() -> str:
    """What every run's prompt begins with: the system turn with the tools' specs, up to where the task begins."""
    from agent import prompts
    from runtime.chat import render
    from tools import standard_tools

    messages = [{"role": "system", "content": prompts.system_prompt()}, {"role": "user", "content": "-"}]
    text = render(messages, [tool.spec for tool in standard_tools()])
    return text[: text.rindex("<|im_start|>user")]


def _say(record: dict[str, Any], line: str, as_json: bool) -> None:
    click.echo(json.dumps(record) if as_json else line)
    sys.stdout.flush()


def _say_error(text: str, as_json: bool) -> None:
    click.echo(json.dumps({"event": "error", "message": text}) if as_json else text, err=not as_json)


__all__ = ["DOES_NOT_FIT", "SERVER_FAILED", "serve"]
