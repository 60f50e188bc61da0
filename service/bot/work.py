"""One request, from the moment a worker takes it: admitted, run, delivered, told. The work of a job.

Each part that others can see is a step (`service.bot.steps`), made so that doing it twice is doing it once: the branch
has one name, the pull request is looked up by it, comments have markers. Left out: stopping (whoever cancels the job
says so), pushing and pull requests (`service.bot.delivery`), and words (`service.bot.texts`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from agent.follow_up import FollowUp
from agent.forges.base import ForgeProblem
from agent.jobs import JobContext, StepFailed
from service.bot import delivery, following, running, texts
from service.bot.admission import Admitted, admit
from service.bot.asking import NotAllowed
from service.bot.context import Bot
from service.bot.mirrors import take
from service.bot.running import Ran, Watch
from service.bot.steps import StepProblem, Steps
from service.bot.threads import Asked
from service.webhooks.model import WishKind
from service.webhooks.visible import visible

_STATUS_EVERY = 60.0  # seconds between two edits of the status comment while a run is going on
_MOST_TALK = 30_000  # characters of an issue's comments that the model is given
_ADMITTED = TypeAdapter(Admitted)


async def work(bot: Bot, job: JobContext) -> dict[str, Any]:
    """The work of a job whose payload is an `Asked`. The result says how it ended, for lists of requests."""
    return await _Request(bot).work(Steps(job), Asked.from_json(dict(job.job.payload)))


class _Request:
    """One request and what it is worked on with."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot

    async def work(self, steps: Steps, asked: Asked) -> dict[str, Any]:
        found = await steps.value("admit", lambda: self._admitted(asked))
        if why := found.get("refused"):
            if not found["silent"]:
                await steps.do("refuse", lambda: self._refuse(asked, why))
            return {"end": "refused", "why": why}
        admitted = _ADMITTED.validate_python(found["admitted"])
        admitted = replace(admitted, folder=self.bot.settings.runs / admitted.folder.name)  # on this machine
        if admitted.asked.kind in (WishKind.HELP, WishKind.EXPLAIN):
            await steps.do("answer", lambda: self._answer(admitted))
            return {"end": "answered"}
        status = await steps.value("greet", lambda: self._greet(steps.id, admitted))
        admitted = replace(admitted, thread=replace(admitted.thread, status_comment=status))
        try:
            if not admitted.follows:  # whoever asks anew after a stop gets a run of their own
                await steps.do("keep attempt", lambda: self.bot.threads.put(admitted.thread))
            return await self._run(steps, admitted)
        except (StepProblem, StepFailed) as problem:
            words = texts.failed(str(problem), self.bot.settings.links(steps.id), again=False)
            await steps.do("tell failure", lambda: self.bot.say(admitted, words))
            return {"end": "failed", "why": str(problem)}

    # -- before a run -----------------------------------------------------------------------------------------------

    async def _admitted(self, asked: Asked) -> dict[str, Any]:
        try:
            found = await admit(self.bot.forge, self.bot.threads, self.bot.settings.runs, asked)
            await self._says_something(found)
        except NotAllowed as refusal:
            return {"refused": str(refusal), "silent": refusal.silent}
        return {"admitted": _ADMITTED.dump_python(found, mode="json")}

    async def _says_something(self, found: Admitted) -> None:
        """Raises NotAllowed for a review of which nothing is left without commands: those are requests themselves; and
        for checks of a commit that isn't the newest any more."""
        asked, pull = found.asked, found.pull
        if asked.kind is WishKind.CHECKS_FAILED and pull and not await self._fails(asked.slug, pull.head_sha):
            raise NotAllowed("no check fails on the newest commit", silent=True)
        if found.asked.kind is not WishKind.REVIEWED or found.pull is None or following.words_of(found.asked):
            return
        if not await delivery.comments_of(self.bot, found.asked, found.pull.number):
            raise NotAllowed("nothing was said in it that isn't a command of its own", silent=True)

    async def _fails(self, slug: str, commit: str) -> bool:
        return bool(await self.bot.forge.failed_checks(slug, commit))

    async def _refuse(self, asked: Asked, why: str) -> None:
        await self.bot.react(asked, "confused")
        await self.bot.forge.say(asked.slug, asked.number, texts.refused(why), "refused")

    async def _answer(self, admitted: Admitted) -> None:
        asked = admitted.asked
        await self.bot.react(asked, "eyes")
        if asked.kind is WishKind.HELP:
            words = texts.help_text(self.bot.settings.name, self.bot.settings.links())
            await self.bot.forge.say(asked.slug, asked.number, words, "help")
            return
        await self.bot.at_hand(admitted)
        story = self.bot.story(admitted)
        words = texts.explained(story, self.bot.settings.links(story.run)) if story else "Nothing was run here yet."
        await self.bot.forge.say(asked.slug, asked.number, words, f"explain:{asked.comment or 0}")

    async def _greet(self, job: str, admitted: Admitted) -> int:
        """The run has no id yet; its page is found by the request's, too."""
        await self.bot.react(admitted.asked, "eyes")
        return await self.bot.say(admitted, texts.working("reading the code", self.bot.settings.links(job)))

    # -- the run ----------------------------------------------------------------------------------------------------

    async def _run(self, steps: Steps, admitted: Admitted) -> dict[str, Any]:
        start = await steps.value("start", lambda: self._start(admitted))
        ran = Ran.from_json(await steps.value("run", lambda: self._ran(steps.id, admitted, start)))
        work = delivery.Work(admitted, ran, start if admitted.pull else "")
        return await delivery.deliver(self.bot, steps, work)

    async def _start(self, admitted: Admitted) -> str:
        """The commit that the work begins on: of the default branch, or of our pull request as it is now."""
        ref = admitted.pull.head if admitted.pull else admitted.repository.default_branch
        asked = await self.bot.named(admitted.asked)
        return await self.bot.mirrors.bring(asked.slug, asked.repository_id, ref)

    async def _ran(self, job: str, admitted: Admitted, start: str) -> dict[str, Any]:
        admitted = replace(admitted, asked=await self.bot.named(admitted.asked))
        await self.bot.at_hand(admitted, start)
        watch = Watch(time.monotonic)
        telling = asyncio.create_task(self._tell_on(job, admitted, watch))
        try:
            async with self.bot.kept(admitted):
                return (await self._worked(job, admitted, start, watch)).to_json()
        finally:
            telling.cancel()

    async def _worked(self, job: str, admitted: Admitted, start: str, watch: Watch) -> Ran:
        settings, issue = self.bot.settings.run, ""
        if admitted.follows:
            said = await self._said(job, admitted, start)
            if running.can_go_on(admitted.folder, job):
                return await running.go_on(admitted.folder, said, settings, watch)
            issue = f"\n\n{said.text}"
            words = texts.working(texts.BEGUN_ANEW, self.bot.settings.links(job))
            await self.bot.say(admitted, words)
        mirror, issue = self.bot.mirrors.path(admitted.asked.repository_id), await self._issue(admitted) + issue
        source = job if admitted.follows else ""
        return await running.begin(admitted.folder, mirror, start, issue, settings, watch, source=source)

    async def _tell_on(self, job: str, admitted: Admitted, watch: Watch) -> None:
        """Edits the status comment now and then; an edit that the forge doesn't take isn't worth a run."""
        told = 0.0
        while True:
            await asyncio.sleep(_STATUS_EVERY)
            if watch.changed > told:
                told = watch.changed
                words = texts.working(watch.words(), self.bot.settings.links(job))
                try:
                    await self.bot.say(admitted, words)
                except ForgeProblem:
                    continue

    async def _said(self, job: str, admitted: Admitted, start: str) -> FollowUp:
        """What the run is told, and the tree it goes on from where others have pushed to its branch."""
        asked, pull = admitted.asked, admitted.pull
        if asked.kind is WishKind.REVIEWED and pull:
            comments = await delivery.comments_of(self.bot, asked, pull.number)
            text = following.review(asked.person, following.words_of(asked), comments)
        elif asked.kind is WishKind.CHECKS_FAILED:
            text = following.failing(await self.bot.forge.failed_checks(asked.slug, start))
        else:
            text = following.asked(asked.person, asked.text)
        run = running.run_in(admitted.folder)
        if pull is None or run is None:
            return FollowUp(text, source=job)
        tree = await self.bot.mirrors.tree_of(asked.repository_id, start)
        if tree == running.left_by(run):  # by its files: a later attempt that came to nothing left others
            return FollowUp(text, source=job)
        await take(run.repository, self.bot.mirrors.path(asked.repository_id), start)
        return FollowUp(text, tree, source=job)

    async def _issue(self, admitted: Admitted) -> str:
        """The issue as its page shows it, what people said below it, and what was said to us."""
        ticket, asked = admitted.ticket, admitted.asked
        me = await self.bot.forge.me(asked.slug)
        parts = [ticket.title, visible(ticket.body).shown.strip()]
        talk = [
            f"{comment.author.login} wrote:\n{visible(comment.body).shown.strip()}"
            for comment in await self.bot.forge.comments(asked.slug, ticket.number)
            if comment.author.id != me.id and comment.id != asked.comment
        ]
        if talk:
            parts.append("Comments:\n\n" + "\n\n".join(talk)[-_MOST_TALK:])
        if words := visible(asked.text).shown.strip():
            parts.append(f"Asked for by {asked.person.login if asked.person else 'a maintainer'}:\n{words}")
        return "\n\n".join(part for part in parts if part)
