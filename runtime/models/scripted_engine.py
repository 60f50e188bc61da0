"""The model behind the scripted server: from a prompt to the ids that it would write.

Which turn comes is read off the prompt alone (how many turns of the model it holds already), so the same request
can be repeated, resumed after a crash and forked. Two things are state: the prefix cache, which counts
`cached_tokens` by the rules that the script names, and how often each fault has struck. What is left out: HTTP,
streaming and time.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from runtime.chat import GENERATION_PROMPT, GENERATION_PROMPT_WITHOUT_THINKING, canonical_turn
from runtime.models.http_server import HttpError
from runtime.models.script_file import After, Conversation, Fault, FaultKind, Script, ScriptTurn
from runtime.prefix import ServerCache
from runtime.tokenizer import Tokenizer

_EMPTY_TURN: Final = ScriptTurn(text="")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as token ids, and what it says about the conversation."""

    ids: Sequence[int]
    turns: int  # turns of the model that are complete
    partial: Sequence[int] = ()  # the start of the open turn, when the prompt goes on in it
    thinking: bool = True  # the open turn begins inside `<think>`
    new_from: int = 0  # where the model's last complete turn ends


@dataclass(frozen=True, slots=True)
class TurnTokens:
    """A turn as it is sent: its ids, and for each the text it adds, as the inside of a JSON string."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send for one request. `tokens` is cut to the finish already, but not to a fault."""

    turn: ScriptTurn
    index: int  # of the turn in its conversation
    tokens: TurnTokens
    finish: dict[str, Any]  # SGLang's `finish_reason`
    fault: Fault | None
    prompt_tokens: int
    cached_tokens: int


class ScriptEngine:
    """Answers prompts from a script. Not safe for several threads; one event loop is enough."""

    def __init__(self, script: Script, tokenizer: Tokenizer) -> None:
        self.script = script
        self.tokenizer = tokenizer
        self.cache = ServerCache(script.cache, script.pool_tokens, script.pool_states)
        self.end = tokenizer.special("<|im_end|>")
        self._think_end = tokenizer.special("</think>")
        opening = "<|im_start|>assistant"
        self._opening = tokenizer.encode_with_specials(opening)
        self._user = tokenizer.encode_with_specials("<|im_start|>user\n")
        self._heads = [
            (tokenizer.encode_with_specials(text.removeprefix(opening)), thinking)
            for text, thinking in ((GENERATION_PROMPT_WITHOUT_THINKING, False), (GENERATION_PROMPT, True))
        ]
        self._struck: dict[tuple[int, int, int], int] = {}  # conversation, turn, fault -> requests hit
        self._turn_tokens = lru_cache(maxsize=1024)(self._tokenize_turn)
        self._encode_piece = lru_cache(maxsize=16_384)(self._encode_once)

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered conversation; turns seen before cost nothing, since each begins with a special."""
        first, *rest = text.split("<|im_start|>")
        ids = list(self._encode_piece(first))
        for piece in rest:
            ids += self._encode_piece("<|im_start|>" + piece)
        return ids

    def read(self, ids: Sequence[int]) -> Prompt:
        """What the ids of a prompt say: how many turns were, and where the open one stands."""
        openings = _occurrences(ids, self._opening)
        if not openings:
            return Prompt(ids, 0)
        open_turn = list(ids[openings[-1] + len(self._opening) :])
        complete = openings if self.end in open_turn else openings[:-1]
        new_from = ids.index(self.end, complete[-1]) + 1 if complete else 0
        if complete is openings:
            return Prompt(ids, len(openings), new_from=new_from)
        for head, thinking in self._heads:
            if open_turn[: len(head)] == head:
                return Prompt(ids, len(complete), open_turn[len(head) :], thinking, new_from)
        return Prompt(ids, len(complete), new_from=new_from)

    def first_user_text(self, ids: Sequence[int]) -> str:
        """The text of the first user message; the whole prompt where there is none."""
        for at in _occurrences(ids, self._user)[:1]:
            rest = list(ids[at + len(self._user) :])
            return self.tokenizer.decode(rest[: rest.index(self.end)] if self.end in rest else rest)
        return self.tokenizer.decode(list(ids))

    def answer(
        self, prompt: Prompt, max_new_tokens: int, *, first_user: str | None = None, constrained: bool = False
    ) -> Answer:
        """The answer to a prompt. Raises `HttpError`: 400 too long, 409 unexpected, 410 after the end."""
        self._check_length(len(prompt.ids), max_new_tokens)
        number, conversation = self._conversation(prompt, first_user)
        turn = _pick(conversation, prompt.turns)
        self._check_expected(turn, prompt)
        tokens = self._rest(turn, prompt, constrained)
        finish: dict[str, Any] = {"type": "stop", "matched": self.end}
        if len(tokens.ids) > max_new_tokens or turn.ends_by_length:
            tokens, finish = _cut(tokens, max_new_tokens)
        fault = self._strike(number, prompt.turns, turn)
        if fault is not None and fault.kind is FaultKind.LENGTH and fault.tokens < len(tokens.ids):
            tokens, finish = _cut(tokens, fault.tokens)
        if self.script.lasting_cache and prompt.new_from:
            self.cache.finish(prompt.ids[: prompt.new_from - 1], prompt.ids[prompt.new_from - 1 : prompt.new_from])
        hit = self.cache.prefill(prompt.ids)
        return Answer(
            turn=turn,
            index=prompt.turns,
            tokens=tokens,
            finish=finish,
            fault=fault,
            prompt_tokens=turn.usage.get("prompt_tokens", len(prompt.ids)),
            cached_tokens=turn.usage.get("cached_tokens", hit.tokens),
        )

    def _rest(self, turn: ScriptTurn, prompt: Prompt, constrained: bool) -> TurnTokens:
        """The turn without what the prompt holds of it. Raises `HttpError` 409 when that isn't how it begins."""
        partial, whole = tuple(prompt.partial), self._turn_tokens(turn, prompt.thinking)
        if constrained and turn.when_constrained is not None:
            whole = self._turn_tokens(ScriptTurn(text=turn.when_constrained), prompt.thinking)
        if whole.ids[: len(partial)] != partial and turn.when_closed is not None and self._think_end in partial:
            partial = partial[partial.index(self._think_end) + 1 :]
            whole = self._turn_tokens(ScriptTurn(text="\n\n" + turn.when_closed), True)
        if whole.ids[: len(partial)] != partial:
            raise HttpError(
                409,
                f"The prompt ends inside a turn of the model, and what is there isn't how turn {prompt.turns} of "
                "the script begins. Send the turn's ids as they came.",
            )
        return TurnTokens(whole.ids[len(partial) :], whole.pieces[len(partial) :])

    def remember(self, prompt: Prompt, written: Sequence[int]) -> None:
        """Take the output into the prefix cache, as far as it was written."""
        self.cache.finish(prompt.ids, written)

    def _check_length(self, prompt_tokens: int, max_new_tokens: int) -> None:
        limit = self.script.context_length
        if prompt_tokens == 0:
            raise HttpError(400, "The prompt is empty; give `input_ids` or `text`.")
        if prompt_tokens >= limit:
            raise HttpError(
                400,
                f"The input ({prompt_tokens} tokens) is longer than the model's context length ({limit} tokens).",
            )
        if prompt_tokens + max_new_tokens > limit:
            raise HttpError(
                400,
                f"Requested token count exceeds the model's maximum context length of {limit} tokens. You requested "
                f"a total of {prompt_tokens + max_new_tokens} tokens: {prompt_tokens} of the prompt and "
                f"{max_new_tokens} to be written.",
            )

    def _conversation(self, prompt: Prompt, first_user: str | None) -> tuple[int, Conversation]:
        conversations = self.script.conversations
        if len(conversations) == 1 and not conversations[0].match:
            return 0, conversations[0]
        text = self.first_user_text(prompt.ids) if first_user is None else first_user
        for number, conversation in enumerate(conversations):
            if conversation.match in text:
                return number, conversation
        looked_for = ", ".join(repr(conversation.match) for conversation in conversations)
        raise HttpError(409, f"No conversation of the script matches the first user message; one of {looked_for}.")

    def _check_expected(self, turn: ScriptTurn, prompt: Prompt) -> None:
        if not turn.expect and not turn.expect_new:
            return
        text = self.tokenizer.decode(list(prompt.ids))
        new = self.tokenizer.decode(list(prompt.ids[prompt.new_from :]))
        for wanted, where, shown in (
            *((wanted, "in the prompt", text) for wanted in turn.expect),
            *((wanted, "behind the model's previous turn", new) for wanted in turn.expect_new),
        ):
            if wanted not in shown:
                raise HttpError(
                    409,
                    f"Turn {prompt.turns} of the script expects {wanted!r} {where}, and it isn't there. "
                    f"The prompt ends with {text[-400:]!r}.",
                )

    def _strike(self, conversation: int, index: int, turn: ScriptTurn) -> Fault | None:
        for number, fault in enumerate(turn.faults):
            key = (conversation, index, number)
            struck = self._struck.get(key, 0)
            if fault.times < 0 or struck < fault.times:
                self._struck[key] = struck + 1
                return fault
        return None

    def _tokenize_turn(self, turn: ScriptTurn, thinking: bool) -> TurnTokens:
        text = turn_text(turn, thinking=thinking)
        ids = self.tokenizer.encode_with_specials(text)
        if not turn.ends_by_length:
            ids.append(self.end)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [decoder.decode(self.tokenizer.decode_bytes([token])) for token in ids]
        return TurnTokens(tuple(ids), tuple(json.dumps(piece)[1:-1] for piece in pieces))

    def _encode_once(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode_with_specials(text))


def turn_text(turn: ScriptTurn, *, thinking: bool) -> str:
    """What the model writes in a turn, without `<|im_end|>`."""
    if turn.text is not None:
        return turn.text
    return canonical_turn(turn.reasoning if thinking else None, turn.content, turn.calls)


def _pick(conversation: Conversation, index: int) -> ScriptTurn:
    turns = conversation.turns
    if index < len(turns):
        return turns[index]
    if conversation.after is After.REPEAT_LAST:
        return turns[-1]
    if conversation.after is After.STOP:
        return _EMPTY_TURN
    raise HttpError(
        410,
        f"The script has {len(turns)} turns and the prompt holds {index} of the model already. "
        'Add turns, or set "after" to "stop" or "repeat_last".',
    )


def _cut(tokens: TurnTokens, length: int) -> tuple[TurnTokens, dict[str, Any]]:
    tokens = TurnTokens(tokens.ids[:length], tokens.pieces[:length])
    return tokens, {"type": "length", "length": len(tokens.ids)}


def _occurrences(ids: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Where `wanted` begins in `ids`; quick where its first id is rare."""
    found, at = [], -1
    try:
        while True:
            at = ids.index(wanted[0], at + 1)
            if list(ids[at : at + len(wanted)]) == wanted:
                found.append(at)
    except ValueError:
        return found
