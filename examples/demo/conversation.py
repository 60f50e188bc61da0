"""One told run as token ids: what the agent would send and receive, put together by its own transcript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from examples.demo.script import TURNS, prompt, specs
from examples.demo.vary import Recording
from runtime.chat import IM_END
from runtime.tokenizer import Tokenizer
from runtime.transcript import Observations, Prompt, Transcript, Turn


@dataclass(frozen=True, slots=True)
class Conversation:
    """Ids of a whole run. `turn_of[i]` is the turn that the model writes token i in, -1 for what it is told."""

    ids: tuple[int, ...]
    turn_of: tuple[int, ...]


def conversation(tokenizer: Tokenizer, told: Recording, tools: Sequence[dict[str, Any]] | None = None) -> Conversation:
    """The run with each turn as scripted and each observation as told."""
    transcript = Transcript(tokenizer)
    messages = prompt(told.workdir)
    turn_of = [-1] * len(transcript.append(Prompt(tuple(messages), tuple(specs() if tools is None else tools))))
    end = tokenizer.special(IM_END)
    for number, turn in enumerate(TURNS):
        ids = (*tokenizer.encode_with_specials(turn.text), end)
        turn_of += [number] * len(transcript.append(Turn(ids, "stop")))
        if number < len(told.observations):
            turn_of += [-1] * len(transcript.append(Observations((told.observations[number],))))
    return Conversation(tuple(transcript.ids), tuple(turn_of))
