"""What the work on requests has at hand: the forge, what is remembered, mirrors, settings. Shared by all its parts.

Left out: the work (`service.bot.work`, `service.bot.delivery`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.events import read_events
from agent.forges.base import Forge, ForgeProblem
from service.bot import running, texts
from service.bot.admission import Admitted
from service.bot.carrying import Carrier
from service.bot.mirrors import Mirrors
from service.bot.running import RunSettings
from service.bot.story import Story, story_of
from service.bot.threads import Asked, Threads


@dataclass(frozen=True, slots=True)
class BotSettings:
    """How the bot presents itself, and where it keeps its runs."""

    runs: Path
    run: RunSettings
    name: str = "patchwright"
    branches: str = "patchwright/"
    run_url: str = ""  # with {run} in it
    help_url: str = ""
    drafts: bool = True

    def links(self, run: str = "") -> texts.Links:
        return texts.Links(self.run_url.replace("{run}", run) if run else "", self.help_url)


@dataclass(frozen=True, slots=True)
class Bot:
    """One for all jobs of a process."""

    forge: Forge
    threads: Threads
    mirrors: Mirrors
    settings: BotSettings
    carrier: Carrier | None = None  # None: all workers have one disk

    async def at_hand(self, admitted: Admitted, *commits: str) -> None:
        """Has on this machine what earlier work for the request left on another. Raises ForgeProblem, GitError."""
        if self.carrier is None and not commits:
            return
        asked = await self.named(admitted.asked)
        for commit in filter(None, commits):
            await self.mirrors.ensure(asked.slug, asked.repository_id, commit)
        if self.carrier is not None:
            await self.carrier.fetch(admitted.folder, asked.slug, asked.repository_id)

    @asynccontextmanager
    async def kept(self, admitted: Admitted) -> AsyncIterator[None]:
        """Within it, the run is carried to where other machines find it."""
        if self.carrier is None:
            yield
            return
        async with self.carrier.kept(admitted.folder):
            yield

    async def named(self, asked: Asked) -> Asked:
        """With the name that its repository has now: whoever renames or transfers it in mid-work finds the work there.

        Raises ForgeProblem.
        """
        return replace(asked, slug=await self.forge.name_of(asked.repository_id, asked.slug))

    async def say(self, admitted: Admitted, words: str) -> int:
        """The status comment, edited: below the issue, also for what is asked at the pull request."""
        asked, thread = await self.named(admitted.asked), admitted.thread
        return (await self.forge.say(asked.slug, thread.number, words, "status", thread.status_comment)).id

    async def react(self, asked: Asked, content: str) -> None:
        """A courtesy: a comment that is gone by now, or a forge that doesn't allow it, holds nothing up."""
        try:
            await self.forge.react(asked.slug, asked.place, asked.review or asked.comment or asked.number, content)
        except ForgeProblem as problem:
            if problem.again:
                raise

    def story(self, admitted: Admitted) -> Story | None:
        run = running.run_in(admitted.folder)
        return story_of(run.id, read_events(run.events)) if run else None
