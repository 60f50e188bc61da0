"""Whether a request may go on, what it means here, and what it is about: all looked up at the forge.

Left out: doing it (`service.bot.work`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from agent.forges.base import Forge, ForgeProblem, Pull, Repository, Ticket
from service.bot import asking
from service.bot.asking import NotAllowed
from service.bot.running import run_in
from service.bot.threads import Asked, Threads
from service.store import Thread
from service.webhooks.model import WishKind

FOLLOWING = frozenset({WishKind.CONTINUE, WishKind.REVIEWED, WishKind.CHECKS_FAILED})
"""Requests that go on with a run that there is."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go on. `thread` is as it stood before; `pull` our open pull request, if there is one."""

    asked: Asked
    repository: Repository
    ticket: Ticket
    thread: Thread
    folder: Path  # of the run
    pull: Pull | None = None

    @property
    def follows(self) -> bool:
        return self.asked.kind in FOLLOWING


async def admit(forge: Forge, threads: Threads, runs: Path, asked: Asked) -> Admitted:
    """Raises NotAllowed, ForgeProblem. Asked again, later or elsewhere, it sees what is so then."""
    asked = replace(asked, slug=await _name_of(forge, asked))
    repository = await forge.repository(asked.slug)
    rules = (await asking.rules_of(forge, repository)).bot
    if asked.kind is not WishKind.CHECKS_FAILED:  # that is the forge's own word
        await asking.check(forge, repository, asked.person, rules)
    elif not rules.enabled:
        raise NotAllowed("the bot is switched off for this repository", silent=True)
    known = await threads.get(asked.repository_id, asked.number)
    asked = replace(asked, kind=_meant(asked, known, runs))
    ticket = await forge.ticket(asked.slug, known.number if known else asked.number)
    thread = replace(known, slug=asked.slug) if known else Thread(asked.repository_id, ticket.number, asked.slug)
    if ticket.pull and asked.kind is not WishKind.HELP:
        raise NotAllowed("I work on issues, and on pull requests of my own")
    if asked.kind is WishKind.CHECKS_FAILED and thread.checks_followed >= rules.follow_checks:
        raise NotAllowed("failing checks were followed up often enough", silent=True)
    pull = await _open_pull(forge, asked, thread)
    if asked.kind in (WishKind.FIX, WishKind.RETRY):
        thread = replace(thread, attempt=thread.attempt + 1)
    return Admitted(asked, repository, ticket, thread, _folder(runs, thread), pull)


def _folder(runs: Path, thread: Thread) -> Path:
    return runs / f"{thread.repository_id}-{thread.number}-{thread.attempt}"


async def _name_of(forge: Forge, asked: Asked) -> str:
    try:
        return await forge.name_of(asked.repository_id, asked.slug)
    except ForgeProblem as problem:
        if problem.status != 404:
            raise
        raise NotAllowed("the repository is gone, or another one by now", silent=True) from None


def _meant(asked: Asked, known: Thread | None, runs: Path) -> WishKind:
    """Begin what there isn't, go on with what there is, also with what was stopped if that is what was said."""
    begun = known is not None and bool(known.run)
    if asked.kind is WishKind.CONTINUE and known is not None and not begun:
        begun = run_in(_folder(runs, known)) is not None
    if asked.kind is WishKind.FIX and begun:
        return WishKind.CONTINUE if asked.text.strip() else WishKind.EXPLAIN
    if asked.kind is WishKind.CONTINUE and not begun:
        return WishKind.FIX
    if asked.kind in (WishKind.REVIEWED, WishKind.CHECKS_FAILED) and not begun:
        raise NotAllowed("this pull request isn't one of mine", silent=True)
    return asked.kind


async def _open_pull(forge: Forge, asked: Asked, thread: Thread) -> Pull | None:
    if asked.kind not in FOLLOWING or not thread.pull:
        return None
    pull = await forge.pull(asked.slug, thread.pull)
    if pull.open and pull.head_repository == asked.slug:
        return pull
    if asked.kind is WishKind.CONTINUE:
        raise NotAllowed(f"#{pull.number} is closed: `retry` begins again from the default branch")
    raise NotAllowed("the pull request is closed", silent=True)
