"""The work process: a worker, and where it is asked to, the dispatcher. `python -m service.work_process`.

It is told by environment variables what the forge, the model and the runs are. Left out: the web process
(`service.server`), and starting both together (`service.supervise`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.forges.base import Forge, ForgeProblem, Secret
from agent.limits import Limits
from agent.runs import home
from service.bot import texts
from service.bot.allowed import Allowed
from service.bot.asking import OURS
from service.bot.carrying import Carrier
from service.bot.context import Bot, BotSettings
from service.bot.mirrors import Mirrors
from service.bot.running import RunSettings
from service.bot.threads import StoredThreads
from service.dispatch import Dispatcher, asked_of
from service.environment import Environment, SettingsProblem
from service.retention.prune import daily, kept_for
from service.settings import database_of, jobs_database, runs_folder
from service.store import Request, Store
from service.telemetry import logs
from service.telemetry.settings import MetricsSettings, metrics_settings
from service.telemetry.traces import Traces
from service.telemetry.work import WorkTelemetry
from service.webhooks.model import WishKind
from service.worker import working

if TYPE_CHECKING:
    from agent.forges.github.client import Exchange

_NICE: Final = 10  # runs make way for answers
_GREETED_AT_ONCE: Final = 4
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """What a work process is told. `jobs` is the queue's database."""

    database: Secret
    jobs: Secret
    bot: BotSettings
    mirrors: Path
    api: str  # of the forge
    app: int | None
    keys: tuple[Secret, ...]  # of the App, the newest first
    token: Secret | None  # instead of an App
    at_once: int
    per_repository: int
    dispatch: bool
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    sweep: int = 300  # seconds between two looks for deliveries that failed; 0: none
    keep: timedelta | None = None  # how long what ended is kept; None: for ever


def from_environment(environment: Mapping[str, str]) -> WorkSettings:
    """Raises SettingsProblem."""
    reader = Environment(environment)
    folder = home() / "service"
    database = database_of(environment)
    app, token = reader.maybe_number("PATCHWRIGHT_GITHUB_APP_ID"), reader.secret("PATCHWRIGHT_GITHUB_TOKEN")
    named = ("PATCHWRIGHT_GITHUB_APP_KEY", "PATCHWRIGHT_GITHUB_APP_KEY_OLD")
    keys = tuple(key for key in map(reader.secret, named) if key)
    if bool(app and keys) == bool(token):
        raise SettingsProblem(
            "say who the bot is: PATCHWRIGHT_GITHUB_APP_ID with PATCHWRIGHT_GITHUB_APP_KEY_FILE for an App, or "
            "PATCHWRIGHT_GITHUB_TOKEN_FILE for one repository, and not both"
        )
    address = reader.text("PATCHWRIGHT_URL", "").rstrip("/")
    run = RunSettings(
        reader.text("PATCHWRIGHT_MODEL", "http://127.0.0.1:30000"),
        sandbox=reader.text("PATCHWRIGHT_SANDBOX", "auto"),
        image=reader.text("PATCHWRIGHT_IMAGE", "") or None,
        network=reader.text("PATCHWRIGHT_NETWORK", "none"),
        runtime=reader.text("PATCHWRIGHT_RUNTIME", "") or None,
        limits=_limits(reader),
    )
    name = reader.text("PATCHWRIGHT_BOT_NAME", "patchwright")
    branches = reader.text("PATCHWRIGHT_BOT_BRANCHES", "patchwright/")
    run_url = f"{address}/runs/{{run}}" if address else ""
    help_url, drafts = reader.text("PATCHWRIGHT_HELP_URL", ""), reader.text("PATCHWRIGHT_DRAFTS", "yes") != "no"
    bot = BotSettings(runs_folder(), run, name, branches, run_url, help_url, drafts)
    return WorkSettings(
        database, jobs_database(database), bot, folder / "mirrors",
        reader.text("PATCHWRIGHT_GITHUB_API", "https://api.github.com"), app, keys, token,
        reader.number("PATCHWRIGHT_RUNS_AT_ONCE", 2), reader.number("PATCHWRIGHT_RUNS_PER_REPOSITORY", 2),
        reader.text("PATCHWRIGHT_DISPATCH", "yes") != "no", metrics_settings(environment),
        reader.number("PATCHWRIGHT_SWEEP_SECONDS", 300), kept_for(environment),
    )  # fmt: skip


def _limits(reader: Environment) -> Limits:
    usual = Limits()
    return Limits(
        steps=reader.number("PATCHWRIGHT_MAX_STEPS", usual.steps),
        tokens=reader.number("PATCHWRIGHT_MAX_TOKENS", usual.tokens),
        seconds=float(reader.number("PATCHWRIGHT_TIMEOUT", int(usual.seconds))),
    )


def forge_of(settings: WorkSettings, only: str | None = None, seen: Callable[[Exchange], None] | None = None) -> Forge:
    """The forge as the settings say who we are there. `only`: the one repository that a token may be used for.

    `seen` is told of each HTTP request.
    """
    from agent.forges.github.auth import AppAuth, TokenAuth
    from agent.forges.github.forge import open_github

    if settings.token:
        return open_github(TokenAuth(settings.token, only), settings.api, seen=seen)
    return open_github(AppAuth(str(settings.app), list(settings.keys)), settings.api, seen=seen)


async def serve(settings: WorkSettings, traces: Traces | None = None) -> None:
    """Works until SIGINT or SIGTERM; what is going on then goes back to the queue. Raises SettingsProblem."""
    stopping = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stopping.set)
    with _telemetry(settings.metrics, traces) as telemetry:
        store = await asyncio.to_thread(Store.open, settings.database.reveal())
        forge = forge_of(settings, seen=telemetry.exchange)
        mirrors = Mirrors(settings.mirrors, forge)
        carrier = Carrier(store, mirrors) if store.many_machines else None
        bot = Bot(forge, StoredThreads(store), mirrors, settings.bot, carrier)
        try:
            await _work(settings, store, bot, telemetry, stopping)
        finally:
            await forge.close()
            store.close()


async def _work(
    settings: WorkSettings, store: Store, bot: Bot, telemetry: WorkTelemetry, stopping: asyncio.Event
) -> None:
    at_once = settings.at_once
    async with working(settings.jobs.reveal(), store, bot, at_once=at_once, telemetry=telemetry) as jobs:
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(stopping.wait())]
        if settings.dispatch:
            per_repository, allowed = settings.per_repository, Allowed(bot.forge)
            dispatcher = Dispatcher(
                store, jobs, _teller(bot), per_repository=per_repository, telemetry=telemetry,
                refusal=allowed.refusal, seen=_greeter(bot, allowed),
            )  # fmt: skip
            tasks.append(asyncio.create_task(dispatcher.run()))
        if settings.keep is not None:
            folder = settings.bot.runs.parent
            tasks.append(asyncio.create_task(daily(store, jobs, folder, settings.keep, socket.gethostname())))
        if settings.dispatch and settings.keys and settings.sweep:
            tasks.append(asyncio.create_task(_sweep(settings, store)))
        ended, going = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in going:
            task.cancel()
        for task in ended:
            task.result()


async def _sweep(settings: WorkSettings, store: Store) -> None:
    from agent.forges.github.auth import AppAuth
    from agent.forges.github.hooks import AppHooks
    from service.sweep import Sweep

    hooks = AppHooks(AppAuth(str(settings.app), list(settings.keys)), settings.api)
    try:
        await Sweep(hooks, store, float(settings.sweep)).run()
    finally:
        await hooks.close()


@contextmanager
def _telemetry(settings: MetricsSettings, traces: Traces | None) -> Iterator[WorkTelemetry]:
    """Served at a port of this process's own where one is named. Raises SettingsProblem for one that is taken."""
    with ExitStack() as stack:
        metrics = None
        if settings.port is not None:
            from service.telemetry.metrics import WorkMetrics
            from service.telemetry.serving import WorkServer

            metrics = WorkMetrics()
            stack.callback(WorkServer(settings, metrics.text).close)
        telemetry = WorkTelemetry(traces, metrics)
        stack.callback(telemetry.traces.close)
        yield telemetry


def _teller(bot: Bot) -> Callable[[Request, Request], Awaitable[None]]:
    async def tell(ended: Request, by: Request) -> None:
        """Below the issue, that its work was stopped."""
        person = by.asked_by if by.wish.kind is WishKind.STOP else None
        who = person.login if person and person.id != OURS else ""  # a token's name is nobody's business
        thread = await bot.threads.get(ended.repository_id, ended.wish.number)
        number, known = (thread.number, thread.status_comment) if thread else (ended.wish.number, None)
        try:
            await bot.forge.say(ended.slug, number, texts.stopped(who, bot.settings.links()), "status", known)
        except ForgeProblem as problem:
            _LOG.warning("%s was stopped, and that could not be said: %s", ended.id, problem)

    return tell


def _greeter(bot: Bot, allowed: Allowed) -> Callable[[Request], Awaitable[None]]:
    few = asyncio.Semaphore(_GREETED_AT_ONCE)

    async def greet(request: Request) -> None:
        """The reaction, for a wish that has to wait: at once, and not when it is its turn."""
        try:
            async with few:
                if not await allowed.refusal(request):
                    await bot.react(await bot.named(asked_of(request)), "eyes")
        except ForgeProblem as problem:
            _LOG.info("%s waits, and that could not be shown: %s", request.id, problem)

    return greet


def main() -> None:
    os.nice(_NICE)
    try:
        redact = logs.set_up(os.environ)
        asyncio.run(serve(from_environment(os.environ), Traces.open(os.environ, "work", redact)))
    except SettingsProblem as problem:
        sys.exit(f"patchwright service: {problem}")


if __name__ == "__main__":
    main()
