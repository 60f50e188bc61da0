"""The conversation as an append-only list of token ids, in typed segments.

What the model wrote stays as it is, id by id; what others say is put between its turns with the framing that the
model was trained on. So the next prompt is always the last one, the turn, and something new, and a server finds
all of it in its prefix cache. Text of users, tools and specs can't spell a special token (`runtime.framing`).

Left out: changing or leaving out what is there, how long a conversation may get, and what a turn's calls mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from runtime import chat, framing
from runtime.ids import Ids
from runtime.tokenizer import Tokenizer

__all__ = [
    "Ids",
    "Observations",
    "PlacedSegment",
    "Prompt",
    "Segment",
    "SegmentKind",
    "Transcript",
    "TranscriptError",
    "Turn",
    "UserMessage",
]


class TranscriptError(ValueError):
    """A segment that can't follow what is there, or ids that can't be such a segment."""


class SegmentKind(StrEnum):
    PROMPT = "prompt"
    TURN = "turn"
    OBSERVATIONS = "observations"
    USER_MESSAGE = "user_message"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What stands before the first turn: OpenAI-style messages and tool specs, as `runtime.chat.render` takes them."""

    messages: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """The very ids that the model wrote after the generation prompt, with its stop token if it wrote one."""

    ids: Sequence[int]
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Observations:
    """What the calls of one turn gave, in the calls' order; at least one. With pictures it is parts, not text."""

    texts: Sequence[chat.Body]


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the user says after a turn; `answers` are what the turn's calls gave, if it had any."""

    text: str
    answers: Sequence[chat.Body] = ()


Segment: TypeAlias = Prompt | Turn | Observations | UserMessage

_KINDS: Final[Mapping[type, SegmentKind]] = {
    Prompt: SegmentKind.PROMPT,
    Turn: SegmentKind.TURN,
    Observations: SegmentKind.OBSERVATIONS,
    UserMessage: SegmentKind.USER_MESSAGE,
}


@dataclass(frozen=True, slots=True)
class PlacedSegment:
    """A segment and where its ids lie; `segment` is None where only the ids were recorded."""

    kind: SegmentKind
    start: int
    stop: int
    segment: Segment | None = field(repr=False)


class Transcript:
    """One conversation. Segments alternate: a prompt, a turn of the model, an answer to it, a turn, ..."""

    def __init__(self, tokenizer: Tokenizer, *, enable_thinking: bool = True) -> None:
        self._tokenizer = tokenizer
        self._enable_thinking = enable_thinking
        self._end = tokenizer.special(chat.IM_END)
        self._opening = tuple(tokenizer.encode_with_specials(chat.generation_prompt(enable_thinking)))
        self._ids = Ids()
        self._placed: list[PlacedSegment] = []  # shared with forks; the first `_count` are ours
        self._count = 0

    @property
    def ids(self) -> Ids:
        """All ids so far. What was handed out doesn't change when the transcript grows."""
        return self._ids

    @property
    def segments(self) -> tuple[PlacedSegment, ...]:
        return tuple(self._placed[: self._count])

    @property
    def enable_thinking(self) -> bool:
        return self._enable_thinking

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, segment: Segment) -> tuple[int, ...]:
        """Add a segment and return its ids. Raises `TranscriptError` or `ChatFormatError` and then adds nothing."""
        kind = _KINDS[type(segment)]
        self._check_order(kind)
        ids = self.encode(segment)
        self._place(kind, ids, segment)
        return ids

    def encode(self, segment: Segment) -> tuple[int, ...]:
        """The ids that `append` would add, for writing them down before."""
        thinking = self._enable_thinking
        match segment:
            case Prompt(messages, tools):
                ids = framing.prompt_ids(self._tokenizer, messages, tools, enable_thinking=thinking)
            case Turn(written, _):
                ids = self._closed(written)
            case Observations(texts):
                if not texts:
                    raise TranscriptError("Observations need at least one text; answer every call of the turn.")
                ids = framing.observation_ids(self._tokenizer, texts, enable_thinking=thinking)
            case UserMessage(text, answers):
                ids = framing.user_ids(self._tokenizer, text, answers, enable_thinking=thinking)
        return tuple(ids)

    def empty_turn(self) -> Turn:
        """A turn in which nothing was said, for speaking next where the model was to: `render` knows it, too."""
        text = chat.canonical_turn("" if self._enable_thinking else None, "")
        return Turn(tuple(self._tokenizer.encode_with_specials(text)))

    def append_ids(self, kind: SegmentKind | str, ids: Iterable[int], segment: Segment | None = None) -> None:
        """Add a segment by the ids that were recorded for it, which count even where `encode` would differ today.

        `segment` is what they stand for, if it is known. Raises `TranscriptError` for ids that no segment of this
        kind can have.
        """
        kind, ids = SegmentKind(kind), tuple(ids)
        self._check_order(kind)
        closing = (self._end,) if kind is SegmentKind.TURN else self._opening
        if ids[-len(closing) :] != closing:
            raise TranscriptError(
                f"The ids recorded for segment {self._count} ({kind}) end with {list(ids[-len(closing) :])} and not "
                f"with {list(closing)}: the record is damaged, or made with another tokenizer or thinking mode."
            )
        if kind is SegmentKind.TURN:
            self._closed(ids)
        self._place(kind, ids, segment)

    def fork(self) -> Transcript:
        """A transcript that goes on from here by itself. Takes the same time for any length."""
        twin = Transcript.__new__(Transcript)
        twin.__dict__.update(self.__dict__)
        return twin

    def messages(self) -> list[dict[str, Any]]:
        """The conversation as OpenAI-style messages, read from the ids alone (`runtime.conversation`).

        `render` turns them into the same text if all turns are canonical.
        """
        from runtime.conversation import read  # the parser is needed for this alone

        return list(read(self._ids, self._tokenizer).messages)

    def _check_order(self, kind: SegmentKind) -> None:
        last = self._placed[self._count - 1].kind if self._count else None
        after_turn = last is SegmentKind.TURN
        fits = {
            SegmentKind.PROMPT: last is None,
            SegmentKind.TURN: last is not None and not after_turn,
            SegmentKind.OBSERVATIONS: after_turn,
            SegmentKind.USER_MESSAGE: after_turn,
        }
        if not fits[kind]:
            there = f"ends with a segment of kind {last}" if last else "is empty"
            raise TranscriptError(
                f"A segment of kind {kind} can't be added: the transcript {there}. "
                "The order is a prompt, a turn, its observations or a user message, a turn, and so on."
            )

    def _closed(self, written: Sequence[int]) -> list[int]:
        """A turn's ids with `<|im_end|>` at the end, and nowhere else."""
        ids = list(written)
        if not ids or ids[-1] != self._end:
            ids.append(self._end)
        if (early := ids.index(self._end)) != len(ids) - 1:
            raise TranscriptError(
                f"The turn goes on after {chat.IM_END} at id {early} of {len(ids)}: what follows isn't the model's "
                "answer. Let the server stop at this token, or cut the turn there."
            )
        return ids

    def _place(self, kind: SegmentKind, ids: tuple[int, ...], segment: Segment | None) -> None:
        start = len(self._ids)
        self._ids = self._ids.extended(ids)
        if len(self._placed) != self._count:  # a fork went on from here
            self._placed = self._placed[: self._count]
        self._placed.append(PlacedSegment(kind, start, len(self._ids), segment))
        self._count += 1
