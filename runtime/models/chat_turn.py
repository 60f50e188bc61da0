"""What a chat host says, as the token ids of a canonical turn: `runtime.chat.canonical_turn`, bit by bit.

Every text is encoded with special tokens disallowed, so nothing that a host says can end a turn or open another; the
marks around thinking and calls are ours. Text is handed out up to where the tokens can't change any more, so that the
ids are those of the whole text. Calls come last and at once, when the host has said that the turn is over: a call that
was cut in half must not be run.

A stream that broke can't be gone on with on such hosts. The turn is asked for once more, and compared with what was
handed out already: as long as the host repeats itself nothing is handed out again, and where it says something else,
that begins as a new paragraph. Left out: requests and events (`chat_host`, `chat_events`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from runtime import chat
from runtime.models.base import FinishReason
from runtime.models.chat_calls import CallFragments, SettledCalls
from runtime.tool_call_specs import ToolBook

if TYPE_CHECKING:
    from runtime.tokenizer import Tokenizer

# No token of Qwen's reaches over these places: from a word to the blank before the next, from a newline into text.
_CUT: Final = re.compile(r"(?<=\S)(?=[ \t])|(?<=\n)(?=\S)")
_MOST_HELD: Final = 512  # characters without such a place, after which it is cut anywhere
_PARAGRAPH: Final = "\n\n"


class TurnWriter:
    """One turn. The methods give the ids that are new; `finish` is called once, at the end."""

    def __init__(
        self, tokenizer: Tokenizer, tools: ToolBook, *, thinking: bool = True, partial: Sequence[int] = ()
    ) -> None:
        """`thinking`: the generation prompt has opened it. `partial`: what was handed out in an earlier try."""
        self._tokenizer = tokenizer
        self._tools = tools
        self._marks = {mark: tokenizer.special(mark) for mark in _MARKS}
        self.over = self._marks[chat.TOOL_CALL_OPEN] in partial  # calls are whole, so nothing has to follow
        thought, said = self._split(partial) if thinking else (None, list(partial))
        self._thinking = thinking and said is None
        self._thought = _Section(tokenizer, before=tokenizer.decode(thought or []))
        there = tokenizer.decode(said or [])
        closed = thinking and len(there) < len(_PARAGRAPH)
        self._said = _Section(
            tokenizer,
            head=_PARAGRAPH[len(there) if said is not None else 0 :] if closed else "",
            before=there.lstrip("\n") if thinking else there,
        )
        self._inline = _InlineThinking()
        self._calls = CallFragments()

    def _split(self, partial: Sequence[int]) -> tuple[list[int], list[int] | None]:
        """The ids before and behind `</think>`; None behind where it is missing."""
        ids, mark = list(partial), self._marks[chat.THINK_CLOSE]
        if mark not in ids:
            return ids, None
        at = ids.index(mark)
        return ids[:at], ids[at + 1 :]

    def think(self, text: str) -> list[int]:
        """More of the thinking. It is left out where the turn has no room for it any more."""
        self._inline.over = self._inline.over or bool(text)
        return self._think(text)

    def say(self, text: str) -> list[int]:
        """More of the content."""
        ids: list[int] = []
        for inside, part in self._inline.feed(text):
            ids += self._think(part) if inside else self._say(part)
        return ids

    def call(self, fragments: object) -> None:
        """Fragments of calls."""
        self._calls.add(fragments)

    def finish(self, finish: FinishReason) -> list[int]:
        """The rest of the turn: what was held back, the calls, and `<|im_end|>` where the host has stopped."""
        stopped = finish is FinishReason.STOP
        ids: list[int] = []
        for inside, part in self._inline.close():
            ids += self._think(part) if inside else self._say(part)
        calls = self._calls.settled(self._tools, limited=not stopped)
        for text in calls.broken:
            ids += self._say((_PARAGRAPH if self._said.begun else "") + text)
        if self._thinking and not stopped and not self._calls:
            return ids + self._thought.end("")
        ids += self._close_thinking()
        return ids + self._end_of(calls) + ([self._marks[chat.IM_END]] if stopped else [])

    def _think(self, text: str) -> list[int]:
        return self._thought.feed(text) if self._thinking else []

    def _say(self, text: str) -> list[int]:
        if not self._said.begun and not text.strip():
            return []
        return self._close_thinking() + self._said.feed(text)

    def _close_thinking(self) -> list[int]:
        if not self._thinking:
            return []
        self._thinking = False
        return [*self._thought.end("\n"), self._marks[chat.THINK_CLOSE]]

    def _end_of(self, calls: SettledCalls) -> list[int]:
        opening, closing = self._marks[chat.TOOL_CALL_OPEN], self._marks[chat.TOOL_CALL_CLOSE]
        follows = bool(calls.whole) or calls.cut is not None
        ids = self._said.end(_PARAGRAPH if follows and self._said.begun else "")
        newline: list[int] = []
        for call in calls.whole:
            ids += [*newline, opening, *self._tokenizer.encode(_inside(call)), closing]
            newline = self._tokenizer.encode("\n")
        if calls.cut is not None:
            ids += [*newline, opening, *self._tokenizer.encode(calls.cut)]
        return ids


_MARKS: Final = (chat.IM_END, chat.THINK_CLOSE, chat.TOOL_CALL_OPEN, chat.TOOL_CALL_CLOSE)


def _inside(call: dict[str, Any]) -> str:
    """A call's text between its special tokens."""
    text = chat.canonical_turn(None, "", [call])
    return text.removeprefix(chat.TOOL_CALL_OPEN).removesuffix(chat.TOOL_CALL_CLOSE)


class _Section:
    """The thinking or the content of a turn: trimmed text, handed out as ids where their tokens are settled."""

    def __init__(self, tokenizer: Tokenizer, *, head: str = "", before: str = "") -> None:
        """`head` goes before the first text; `before` is what an earlier try has handed out."""
        self.begun = bool(before)
        self._tokenizer = tokenizer
        self._held = head
        self._earlier: str | None = before or None  # until this try is seen to repeat it, or not to
        self._again = ""
        self._spoken = False  # this try has said something

    def feed(self, text: str) -> list[int]:
        text = text if self._spoken else text.lstrip()
        if not text:
            return []
        self._spoken = self.begun = True
        self._held += self._new(text)
        settled = self._held.rstrip()
        cut = 0
        for place in _CUT.finditer(settled):
            cut = place.start()
        if len(settled) - cut > _MOST_HELD:
            cut = len(settled)
        ids = self._tokenizer.encode(self._held[:cut])
        self._held = self._held[cut:]
        return ids

    def end(self, tail: str) -> list[int]:
        """What is left, without white space at its end, and then `tail`."""
        held = self._held.rstrip() if self.begun else self._held
        self._held = ""
        return self._tokenizer.encode(held + tail)

    def _new(self, text: str) -> str:
        """What of a text isn't a repetition of the earlier try."""
        if self._earlier is None:
            return text
        self._again += text
        if self._earlier.startswith(self._again):
            return ""
        earlier, self._earlier = self._earlier, None
        if self._again.startswith(earlier):
            return self._again[len(earlier) :]
        return _PARAGRAPH + self._again


class _InlineThinking:
    """Thinking that a host leaves in the content: between `<think>` and `</think>` at its very beginning."""

    def __init__(self) -> None:
        self.over = False
        self._inside = False
        self._held = ""

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """The text in parts, each with whether it is thinking."""
        self._held += text
        if not self.over and not self._inside:
            begun = self._held.lstrip()
            if chat.THINK_OPEN.startswith(begun):
                return
            self._inside = begun.startswith(chat.THINK_OPEN)
            self.over = not self._inside
            self._held = begun.removeprefix(chat.THINK_OPEN) if self._inside else self._held
        if self._inside and not self.over:
            thought, mark, rest = self._held.partition(chat.THINK_CLOSE)
            keep = 0 if mark else _overlap(thought, chat.THINK_CLOSE)
            yield True, thought[: len(thought) - keep]
            self.over = bool(mark)
            self._held = rest if mark else thought[len(thought) - keep :]
        if self.over and self._held:
            text, self._held = self._held, ""
            yield False, text

    def close(self) -> Iterable[tuple[bool, str]]:
        held, self._held = self._held, ""
        return [(self._inside and not self.over, held)] if held else []


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of the text may be the beginning of the mark."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
