"""The bot's commands: `@name fix|continue|retry|stop|explain [text]` at the beginning of a line.

    @patchwright fix only the parser, leave the printer alone

What follows the word, to the end of the comment or the next command, goes along as text, with its code and quotes. The
first command counts.
A mention anywhere else, or with another word, is a question for help. Left out: what the commands do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from service.webhooks.model import WishKind
from service.webhooks.visible import visible

COMMANDS = {
    kind.value: kind for kind in (WishKind.FIX, WishKind.CONTINUE, WishKind.RETRY, WishKind.STOP, WishKind.EXPLAIN)
}


_ALONE = frozenset({WishKind.STOP, WishKind.RETRY, WishKind.EXPLAIN})


@dataclass(frozen=True, slots=True)
class Command:
    kind: WishKind
    text: str = ""

    @property
    def alone(self) -> bool:
        """Whether it is a wish of its own also in a review, which by itself asks to go on."""
        return self.kind in _ALONE


@lru_cache(maxsize=8)
def _patterns(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    # ASCII: without it, letters that only look alike would be taken for the name's and the commands'
    flags = re.ASCII | re.IGNORECASE
    called = rf"@{re.escape(name)}(?:\[bot\])?(?![A-Za-z0-9-])(?!/)"
    words = "|".join(COMMANDS)
    # no two repetitions of blanks side by side: a line of them would be tried in every division
    order = rf"^[ \t]*{called}(?:[ \t]*[,:])?[ \t]+({words})(?![\w-])[ \t]*[:,.!]?"
    return re.compile(order, flags | re.MULTILINE), re.compile(rf"(?<![\w@/.`-]){called}", flags)


def command(text: str, name: str) -> Command | None:
    """What a comment asks of the bot of this name; None when it doesn't speak to it."""
    seen = visible(text)
    order, mention = _patterns(name)
    first = order.search(seen.own)
    if first is None:
        return Command(WishKind.HELP) if mention.search(seen.own) else None
    following = order.search(seen.own, first.end())
    rest = seen.shown[first.end() : following.start() if following else len(seen.shown)]
    return Command(COMMANDS[first[1].lower()], rest.strip())
