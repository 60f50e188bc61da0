"""Who may ask the bot for work: decided by what the forge says now, never by what a delivery claims.

Rules are in `[bot]` of `.patchwright.toml` on the default branch, which only those can change who may write there.
Left out: reading deliveries (`service.webhooks`), and rate limits.
"""

from __future__ import annotations

from agent.config import CONFIG_FILE, BotSection, RepositoryConfig, parse_config
from agent.ends import InputProblem
from agent.forges.base import Forge, Permission, Person, Repository

OURS = 0
"""The id of who asks through our own API, with a token that allows it. No account of a forge has it."""


class NotAllowed(Exception):
    """Nobody is told more than this sentence. `silent`: not even that, for whom an answer would only be noise."""

    def __init__(self, why: str, *, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


async def rules_of(forge: Forge, repository: Repository) -> RepositoryConfig:
    """The repository's settings, from its default branch. Raises NotAllowed for a file that can't be read."""
    data = await forge.file(repository.slug, CONFIG_FILE, repository.default_branch)
    if data is None:
        return RepositoryConfig()
    try:
        return parse_config(data.decode("utf-8", "replace"))
    except InputProblem as problem:
        raise NotAllowed(str(problem)) from None


async def check(forge: Forge, repository: Repository, person: Person | None, rules: BotSection) -> None:
    """Raises NotAllowed, ForgeProblem."""
    if not rules.enabled:
        raise NotAllowed("the bot is switched off for this repository", silent=True)
    if person is not None and person.id == OURS:
        return
    if person is None:
        raise NotAllowed("the account that asked is gone", silent=True)
    if person.bot and person.id not in rules.bots:
        raise NotAllowed("bots may not ask here", silent=True)
    if person.id in rules.allow:
        return
    has = await forge.permission(repository.slug, person)
    needed = Permission[rules.minimum.upper()]
    if has < needed:
        raise NotAllowed(
            f"it takes {rules.minimum} permission on this repository to ask me, unless a maintainer allows you",
            silent=has < Permission.READ,
        )
