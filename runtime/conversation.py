"""Token ids of a transcript back into messages and tool specs: the inverse of `runtime.framing`.

Text of users, tools and specs can't spell a special token, so the special tokens mark every turn exactly. A turn of
the model is read as the agent reads it, by `runtime.tool_calls`. What comes out is what an OpenAI-compatible host
takes: every tool message answers a call of the turn before, and each call is answered. Where a turn's calls and what
answered them don't pair up (a call that couldn't be read, a turn without one), both are given as the very text that
stands in the ids, so that the official template still renders the same.

Left out: how a host wants these messages on the wire (`runtime.models.chat_request`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from runtime import chat
from runtime.tokenizer import Tokenizer
from runtime.tool_call_specs import ToolBook
from runtime.tool_call_turn import read_turn
from runtime.tool_call_types import ParsedTurn, PieceKind

if TYPE_CHECKING:
    from runtime.ids import Ids

Message: TypeAlias = dict[str, Any]
Content: TypeAlias = str | list[Message]

_END_OF_TEXT: Final = "<|endoftext|>"
_PICTURES: Final = {"<|image_pad|>": "image", "<|video_pad|>": "video"}
_THINKING_MARKS: Final = (chat.THINK_OPEN, chat.THINK_CLOSE)
_ROLES: Final = ("system", "user", "assistant")
_MOST_KNOWN: Final = 8  # conversations that a reader goes on with: attempts of one run, runs of one process
_MOST_ROLE_IDS: Final = 12  # even where each byte is a token
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what hosts take for a function's name
_INSTRUCTIONS_BEFORE: Final = chat.CALL_INSTRUCTIONS.partition(chat.TOOL_CALL_OPEN)[0]
_INSTRUCTIONS_AFTER: Final = chat.CALL_INSTRUCTIONS.rpartition(chat.TOOL_CALL_CLOSE)[2]


class ConversationError(ValueError):
    """Ids that aren't a conversation in our framing; the text says where."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a transcript says.

    `messages` are as `runtime.chat.render` takes them: the arguments of calls are mappings. Calls have ids that are
    made up from their place, the same each time. A picture is a part `{"type": "image"}`. `thinking` tells whether
    the open turn begins inside its thinking (True where no turn is open). `partial` holds the ids that the open turn
    has behind its generation prompt; None where no turn is open.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...]
    thinking: bool = True
    partial: tuple[int, ...] | None = None


def read(ids: Sequence[int], tokenizer: Tokenizer) -> Conversation:
    """The conversation that `ids` are. Raises `ConversationError`."""
    return _Reader(tuple(ids), tokenizer).read()


class ConversationReader:
    """Reads conversations that grow: what it has read before isn't read again, in whatever order they come.

    The messages of what it gives are shared among conversations, so nobody may change them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[bytes, _Closed] = {}  # by their ids; those that were used last are the last

    def read(self, ids: Ids) -> Conversation:
        """As the function `read`, in time proportional to what is new."""
        raw = ids.tobytes()
        before = max(filter(raw.startswith, self._known), key=len, default=b"")
        closed = self._known.pop(before, None)
        if closed is not None:
            self._known[before] = closed
        reader = _Reader(ids[closed.stop :] if closed else tuple(ids), self._tokenizer, closed)
        conversation = reader.read()
        known = reader.closed
        beginning = raw[: known.stop * len(raw) // len(ids)] if len(ids) else b""
        self._known.pop(beginning, None)
        self._known[beginning] = known
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return conversation


@dataclass(frozen=True, slots=True)
class _Turn:
    """The ids between `<|im_start|>` and `<|im_end|>`."""

    role: str
    ids: tuple[int, ...]
    number: int


@dataclass(frozen=True, slots=True)
class _Closed:
    """What was read of a conversation up to the end of its last closed turn."""

    stop: int = 0  # ids
    turns: int = 0
    messages: tuple[Message, ...] = ()
    tools: tuple[Any, ...] = ()
    book: ToolBook = field(default_factory=lambda: ToolBook(()))
    waiting: _Turn | None = None


class _Reader:
    def __init__(self, ids: tuple[int, ...], tokenizer: Tokenizer, before: _Closed | None = None) -> None:
        """`ids` are those behind what was read `before`."""
        before = before or _Closed()
        self._ids = ids
        self._tokenizer = tokenizer
        self._start, self._end = map(tokenizer.special, (chat.IM_START, chat.IM_END))
        self._messages = list(before.messages)
        self._tools = before.tools
        self._book = before.book
        self._waiting = before.waiting  # a turn of the model; what its calls became depends on what follows
        self._before = before
        self._stop, self._count = 0, before.turns  # how far closed turns were read, of `ids`, and how many in all
        self.closed = before

    def read(self) -> Conversation:
        thinking, partial = True, None
        for turn, closed in self._turns():
            if not closed:
                thinking, partial = self._opening(turn)
                break
            self._take(turn)
        self.closed = _Closed(
            self._before.stop + self._stop, self._count, tuple(self._messages), self._tools, self._book, self._waiting
        )
        self._settle([])
        return Conversation(tuple(self._messages), self._tools, thinking, partial)

    def _turns(self) -> Iterator[tuple[_Turn, bool]]:
        """All turns, and whether they are closed; only the last one may be open."""
        ids, before = self._ids, self._before.stop
        while self._stop < len(ids):
            at, number = self._stop, self._count
            start = self._find(self._start, at)
            if between := self._decode(ids[at:start]).strip():
                raise ConversationError(f"There is text outside of turns behind id {before + at}: {between[:80]!r}.")
            if start == len(ids):
                return
            stop = self._find(self._end, start)
            body = ids[start + 1 : stop]
            begins = self._decode(body[:_MOST_ROLE_IDS])
            role, newline, _ = begins.partition("\n")
            if not newline or role not in _ROLES or (role == "system" and number):
                raise ConversationError(f"The turn at id {before + start} begins with {begins!r} and not with a role.")
            closed = stop < len(ids)
            if closed:
                self._stop, self._count = stop + 1, number + 1
            yield _Turn(role, body, number), closed
            if not closed:
                return

    def _find(self, wanted: int, at: int) -> int:
        try:
            return self._ids.index(wanted, at)
        except ValueError:
            return len(self._ids)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def _opening(self, turn: _Turn) -> tuple[bool, tuple[int, ...]]:
        """How the open turn began, and what of it was written."""
        for thinking in (False, True):
            head = self._tokenizer.encode_with_specials(chat.generation_prompt(thinking))[1:]
            if turn.ids[: len(head)] == tuple(head):
                return thinking, turn.ids[len(head) :]
        raise ConversationError(
            f"The ids end inside a turn that doesn't begin as a turn of the model: {self._decode(turn.ids[:12])!r}."
        )

    def _take(self, turn: _Turn) -> None:
        if turn.role == "assistant":
            self._settle([])
            self._waiting = turn
        elif turn.role == "system":
            self._take_system(turn.ids)
        elif responses := self._responses(turn.ids):
            self._settle(responses)
        else:
            self._settle([])
            self._messages.append({"role": "user", "content": self._content(turn.ids, "user\n")})

    # -- what isn't the model's -------------------------------------------------------------------------------

    def _take_system(self, ids: tuple[int, ...]) -> None:
        """The specs stand before the first `<tool_call>` of the instructions, the text behind all of them."""
        opening, closing = map(self._tokenizer.special, (chat.TOOL_CALL_OPEN, chat.TOOL_CALL_CLOSE))
        if opening not in ids:
            text = self._decode(ids).removeprefix("system\n")
        else:
            first = ids.index(opening)
            last = len(ids) - ids[::-1].index(closing)
            specs = self._decode(ids[:first]).removeprefix("system\n" + chat.TOOLS_INTRODUCTION)
            self._tools = _specs(specs.removesuffix(_INSTRUCTIONS_BEFORE))
            self._book = ToolBook(self._tools)
            text = self._decode(ids[last:]).removeprefix(_INSTRUCTIONS_AFTER).removeprefix("\n\n")
        if text or opening not in ids:
            self._messages.append({"role": "system", "content": text})

    def _responses(self, ids: tuple[int, ...]) -> list[Content]:
        """The tool responses in a turn; none in a user's own."""
        opening, closing = map(self._tokenizer.special, (chat.TOOL_RESPONSE_OPEN, chat.TOOL_RESPONSE_CLOSE))
        starts = [at + 1 for at, id_ in enumerate(ids) if id_ == opening]
        stops = [at for at, id_ in enumerate(ids) if id_ == closing]
        if len(starts) != len(stops):
            raise ConversationError(f"{len(starts)} tool responses are opened in a turn and {len(stops)} closed.")
        return [self._content(ids[start:stop], "\n", "\n") for start, stop in zip(starts, stops, strict=True)]

    def _content(self, ids: tuple[int, ...], head: str, tail: str = "") -> Content:
        """Text between `head` and `tail`, or parts where there are pictures."""
        kinds = {self._tokenizer.special(pad): kind for pad, kind in _PICTURES.items()}
        pads = [at for at, id_ in enumerate(ids) if id_ in kinds]
        if not pads:
            return self._decode(ids).removeprefix(head).removesuffix(tail)
        parts: list[Message] = []
        for at, stop in zip([-2, *pads], [*pads, len(ids) + 1], strict=True):
            if at >= 0:
                parts.append({"type": kinds[ids[at]]})
            text = self._decode(ids[at + 2 : stop - 1])  # without the marks around a picture
            text = text.removeprefix(head) if at < 0 else text
            text = text.removesuffix(tail) if stop > len(ids) else text
            if text:
                parts.append({"type": "text", "text": text})
        return parts

    # -- turns of the model -----------------------------------------------------------------------------------

    def _settle(self, responses: Sequence[Content]) -> None:
        """The turn that waits and what answered it, as messages."""
        turn, self._waiting = self._waiting, None
        calls: list[Message] = []
        if turn is not None:
            parsed, thought = self._parsed(turn, len(responses))
            if len(parsed.calls) == len(responses):
                calls = [
                    _call(f"call_{turn.number}_{index}", call.name, call.arguments)
                    for index, call in enumerate(parsed.calls)
                    if call.name in self._book.names or _NAME.fullmatch(call.name)
                ]
            if len(calls) != len(responses):
                calls = []
            message: Message = {"role": "assistant", "content": _said(parsed, with_calls=not calls)}
            if thought:
                message["reasoning_content"] = (parsed.reasoning or "").strip()
            if calls:
                message["tool_calls"] = calls
            self._messages.append(message)
        if calls:
            self._messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": text}
                for call, text in zip(calls, responses, strict=True)
            ]
        elif responses:
            self._messages.append({"role": "user", "content": _spelled(responses)})

    def _parsed(self, turn: _Turn, responses: int) -> tuple[ParsedTurn, bool]:
        """The turn as the agent took it, and whether it has room for thinking.

        The ids don't say whether the turn was cut off; where that matters for its calls, their answers tell.
        """
        end_of_text = self._tokenizer.special(_END_OF_TEXT)
        text = self._decode([id_ for id_ in turn.ids if id_ != end_of_text]).removeprefix("assistant\n")
        thought = text.startswith(chat.THINK_OPEN)
        text = text.removeprefix(f"{chat.THINK_OPEN}\n") if thought else text
        parsed = read_turn(text, self._book, thinking=thought, finished=True)
        if len(parsed.calls) != responses:
            cut = read_turn(text, self._book, thinking=thought, finished=False)
            if len(cut.calls) == responses:
                parsed = cut
        return parsed, thought


def _call(call_id: str, name: str, arguments: Message) -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _said(parsed: ParsedTurn, *, with_calls: bool) -> str:
    """What the model said besides its thinking, with the calls or without, and always with those that are broken."""
    hidden = {PieceKind.REASONING} if with_calls else {PieceKind.REASONING, PieceKind.CALL}
    pieces = [
        piece.text
        for piece in parsed.pieces
        if piece.kind not in hidden
        and not (piece.kind is PieceKind.FRAMING and any(mark in piece.text for mark in _THINKING_MARKS))
    ]
    return "".join(pieces).strip()


def _spelled(responses: Sequence[Content]) -> Content:
    """Responses that answer no call, as a user message that the template takes for tool responses."""
    parts: list[Message] = []
    for response in responses:
        before = "\n" if parts else ""
        parts.append({"type": "text", "text": f"{before}{chat.TOOL_RESPONSE_OPEN}\n"})
        parts += [{"type": "text", "text": response}] if isinstance(response, str) else response
        parts.append({"type": "text", "text": f"\n{chat.TOOL_RESPONSE_CLOSE}"})
    if any(part["type"] != "text" for part in parts):
        return parts
    return "".join(part["text"] for part in parts)


def _specs(lines: str) -> tuple[Any, ...]:
    try:
        return tuple(json.loads(line) for line in lines.split("\n") if line)
    except ValueError as error:
        raise ConversationError(f"The tool specs in the system turn can't be read: {error}.") from error
