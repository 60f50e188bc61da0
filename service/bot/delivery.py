"""What becomes of a run's work on the forge: a commit, a branch, a draft pull request, and answers.

The commit is a step before the push, so that a push that is repeated pushes the same one; nothing is ever pushed over
somebody else's commits. Left out: what is written (`service.bot.texts`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agent.checkout import Base
from agent.deliver import commit_message
from agent.forges import commits
from agent.forges.base import ReviewComment
from agent.forges.commits import Identity
from service.bot import texts
from service.bot.admission import Admitted
from service.bot.asking import OURS
from service.bot.context import Bot
from service.bot.mirrors import take
from service.bot.quiet import recorded
from service.bot.running import Ran
from service.bot.steps import StepProblem, Steps
from service.bot.story import Story
from service.bot.threads import Asked
from service.store import Thread
from service.webhooks.commands import command
from service.webhooks.model import WishKind
from service.webhooks.visible import visible

_MOST_REPLIES = 40


@dataclass(frozen=True, slots=True)
class Work:
    """A run that has ended. `onto`: the commit of our pull request that it goes on top of, "" for a new branch."""

    admitted: Admitted
    ran: Ran
    onto: str

    @property
    def asked(self) -> Asked:
        return self.admitted.asked

    @property
    def thread(self) -> Thread:
        """As it stands after the run."""
        before = self.admitted.thread
        more = self.asked.kind is WishKind.CHECKS_FAILED
        asked_by = self.asked.person.login if self.asked.person else before.asked_by
        return replace(before, run=self.ran.run, asked_by=asked_by, checks_followed=before.checks_followed + more)


async def deliver(bot: Bot, steps: Steps, work: Work) -> dict[str, Any]:
    """Raises StepProblem. The result says how the request ended."""
    await steps.anew(lambda: bot.at_hand(work.admitted, work.onto, work.ran.base))
    story = bot.story(work.admitted)
    if story is None or story.run != work.ran.run:
        raise StepProblem("the run's work is gone with the machine that had it: `retry` begins again")
    ended = {"outcome": work.ran.outcome, "run": work.ran.run}
    thread = work.thread
    await steps.do("keep run", lambda: bot.threads.put(thread))
    if not await steps.value("anything new", lambda: _is_new(bot, work)):
        await steps.do("tell", lambda: _tell_nothing(bot, work, story))
        return {"end": "no change", **ended}
    branch = thread.branch if work.onto and thread.branch else _branch(bot, thread)
    commit = await steps.value("commit", lambda: _commit(bot, work, story))
    await steps.do("push", lambda: _push(bot, work, commit, branch))
    thread = replace(thread, branch=branch, head=commit)
    await steps.do("keep branch", lambda: bot.threads.put(thread))
    number = await steps.value("pull request", lambda: _pull(bot, work, branch, story))
    thread = replace(thread, pull=number)
    await steps.do("keep pull request", lambda: bot.threads.put(thread))
    await steps.do("tell", lambda: _tell_done(bot, work, story, number, commit))
    return {"end": "pull request", "pull": number, "commit": commit, **ended}


async def comments_of(bot: Bot, asked: Asked, pull: int) -> list[ReviewComment]:
    """The inline comments that a request is about: those of a review, or the one that was made by itself.

    Without those that are wishes of their own, such as `stop`.
    """
    found = await bot.forge.review_comments(asked.slug, pull, asked.review)
    if asked.review is None and asked.comment is not None:
        found = [one for one in found if one.id == asked.comment]
    orders = [command(one.body, bot.settings.name) for one in found]
    return [one for one, order in zip(found, orders, strict=True) if order is None or not order.alone]


async def _is_new(bot: Bot, work: Work) -> bool:
    if work.onto:
        return await bot.mirrors.tree_of(work.asked.repository_id, work.onto) != work.ran.tree
    return work.ran.changed


def _branch(bot: Bot, thread: Thread) -> str:
    """One name per attempt, so that a new one never meets the commits of the last."""
    more = f"-{thread.attempt}" if thread.attempt > 1 else ""
    return f"{bot.settings.branches}issue-{thread.number}{more}"


async def _commit(bot: Bot, work: Work, story: Story) -> str:
    asked, bare = work.asked, work.admitted.folder / work.ran.run / "repository.git"
    parent = work.onto or work.ran.base
    if work.onto:
        await take(bare, bot.mirrors.path(asked.repository_id), work.onto)
    base = Base(parent, await bot.mirrors.tree_of(asked.repository_id, parent))
    title = recorded(visible(work.admitted.ticket.title).shown)
    message = await commit_message(bare, base, work.ran.tree, title, recorded(story.summary), work.ran.run)
    me = await bot.forge.me(asked.slug)
    author = Identity(me.login, bot.forge.address(me))
    account = asked.person is not None and asked.person.id != OURS
    them = [Identity(asked.person.login, bot.forge.address(asked.person))] if asked.person and account else []
    return await commits.commit(bare, work.ran.tree, [parent], message, author, them)


async def _push(bot: Bot, work: Work, commit: str, branch: str) -> None:
    asked, bare = await bot.named(work.asked), work.admitted.folder / work.ran.run / "repository.git"
    await bot.mirrors.publish(asked.slug, asked.repository_id, bare, commit, branch, work.onto or None)


async def _pull(bot: Bot, work: Work, branch: str, story: Story) -> int:
    ticket, links = work.admitted.ticket, bot.settings.links(story.run)
    title, body = texts.pull_title(ticket.title), texts.pull_body(story, ticket.number, links)
    into = work.admitted.repository.default_branch
    slug = (await bot.named(work.asked)).slug
    return (await bot.forge.open_pull(slug, branch, into, title, body, draft=bot.settings.drafts)).number


async def _tell_done(bot: Bot, work: Work, story: Story, pull: int, commit: str) -> None:
    await bot.say(work.admitted, texts.opened(story, pull, bot.settings.links(story.run)))
    await _reply(bot, work, texts.answered(story, commit))


async def _tell_nothing(bot: Bot, work: Work, story: Story) -> None:
    links = bot.settings.links(story.run)
    await bot.say(work.admitted, texts.without_patch(story, links, still=work.admitted.thread.pull))
    await _reply(bot, work, texts.answered(story, None))


async def _reply(bot: Bot, work: Work, words: str) -> None:
    """In the threads of the review that asked."""
    pull = work.admitted.pull
    if work.asked.kind is not WishKind.REVIEWED or pull is None:
        return
    asked = await bot.named(work.asked)
    for one in (await comments_of(bot, asked, pull.number))[:_MOST_REPLIES]:
        await bot.forge.reply(asked.slug, pull.number, one.in_reply_to or one.id, words, f"answer:{one.id}")
