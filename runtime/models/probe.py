"""A conformance probe: what a server does with ids, its cache, thinking, calls, aborts and long prompts.

Every check is a few short requests with a greeting of its own, so that a probe disturbs nobody's cache and can be
repeated. A check says what was seen; a model that doesn't show what it was asked for (one with random weights calls
no tools) is no failure of its server. Left out: speed, load, and the quality of answers.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from runtime import chat, framing
from runtime.ids import Ids
from runtime.models.base import Chunk, Feature, FinishReason, Model, ModelError, Sampling, Usage
from runtime.models.compare import CONVERSATION, TOOLS, Agreement, Finding, compare
from runtime.models.probe_server import ServerPaths, address_of, says_too_long
from runtime.prefix import PrefixModel, Reason

if TYPE_CHECKING:
    from runtime.tokenizer import Tokenizer

SECONDS: Final = 600.0  # for one check
WIDEST_NAME: Final = 34  # characters of a check's name, for a table
SETTLE_SECONDS: Final = 10.0  # for a closed request to be gone
_TELLING_SECONDS: Final = 0.5  # a stream that takes so long comes in pieces
_GREEDY: Final = Sampling(temperature=0.0, max_new_tokens=32)
_QUESTION: Final = "What is 17 * 23? Answer with the number."
_TASK: Final = "Call the tool read_file to show src/naive.py, and nothing else."
_LONG: Final = "Count from 1 to 2000, each number in words, without leaving one out."


class Result(StrEnum):
    OK = "ok"
    DIFFERS = "differs"  # from what our client needs or expects
    NOT_OFFERED = "not offered"  # the server has no way to show it
    NOT_SHOWN = "not shown"  # the model's answer didn't come to it
    FAILED = "failed"  # an error instead of an answer


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    result: Result
    seen: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe found. `host` has what the server says of itself."""

    target: str
    host: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing differs and nothing failed."""
        return all(check.result not in (Result.DIFFERS, Result.FAILED) for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        rows = [{"check": check.name, "result": check.result, "seen": check.seen} for check in self.checks]
        return {"target": self.target, "ok": self.ok, "host": self.host, "checks": rows}


async def probe(
    target: str | Model, *, on_check: Callable[[Check], None] | None = None, most_tokens: int = 2048
) -> Report:
    """Probe a server (a URL, or what else `connect` takes) or a model that is connected already.

    `most_tokens` are what the model may write to think and call a tool.
    `on_check` is told of each check when it is done. Raises a `ModelError` where nothing can be reached; errors in
    the checks are their results.
    """
    if not isinstance(target, str):
        return await _Probe(target, target.name, None, most_tokens).run(on_check)
    from runtime.models.connect import connect

    model = await connect(target)
    address = address_of(target)
    server = ServerPaths(address) if address else None
    try:
        return await _Probe(model, target, server, most_tokens).run(on_check)
    finally:
        await model.close()
        if server is not None:
            await server.close()


@dataclass(slots=True)
class _Answer:
    """What came of one request."""

    ids: list[int] = field(default_factory=list)
    chunks: int = 0
    first: float = 0.0  # seconds until the first chunk
    seconds: float = 0.0
    finish: FinishReason | None = None
    usage: Usage = field(default_factory=Usage)


class _Probe:
    def __init__(self, model: Model, target: str, server: ServerPaths | None, most_tokens: int) -> None:
        self.model = model
        self.target = target
        self.server = server
        self.most_tokens = most_tokens
        self.tokenizer: Tokenizer = model.tokenizer
        self.nonce = secrets.token_hex(4)
        self.exact = Feature.EXACT_IDS in model.facts.features

    async def run(self, on_check: Callable[[Check], None] | None) -> Report:
        checks: list[Check] = []
        for part in (self.ids, self.cache, self.turn, self.abort, self.context, self.reading):
            try:
                async with asyncio.timeout(SECONDS):
                    found = await part()
            except ModelError as error:
                found = [Check(_name(part), Result.FAILED, str(error))]
            except TimeoutError:
                found = [Check(_name(part), Result.FAILED, f"not done after {SECONDS:g} s")]
            checks += found
            for check in found if on_check else ():
                on_check(check)  # type: ignore[misc]
        facts = self.model.facts
        host = {
            "name": self.model.name, "engine": facts.engine, "version": facts.version,
            "context": self.model.context_length, "features": sorted(facts.features), "notes": list(facts.notes),
        }  # fmt: skip
        return Report(self.target, host, tuple(checks))

    # -- the checks -------------------------------------------------------------------------------------------

    async def ids(self) -> list[Check]:
        """Are the ids of a prompt taken as they are, and the ids of a turn given back, specials among them?"""
        if not self.exact:
            return [Check("ids", Result.NOT_OFFERED, "messages in, text out: prompts are rendered by the host")]
        ids, end = self.prompt(_QUESTION), self.tokenizer.special(chat.IM_END)
        at = len(ids) - 1 - ids[::-1].index(end)
        ids[at:at] = [token for letter in " hello" for token in self.tokenizer.encode(letter)]  # one token would do
        answer = await self.ask(Ids(ids))
        count = answer.usage.prompt_tokens
        taken = Check("ids in", Result.OK, f"{len(ids)} ids, split letters and special tokens among them")
        if count != len(ids):
            taken = Check("ids in", Result.DIFFERS, f"{len(ids)} ids were sent and {count} counted")
        return [taken, self._given(answer), self._streamed(answer)]

    def _given(self, answer: _Answer) -> Check:
        said, end = answer.usage.completion_tokens, self.tokenizer.special(chat.IM_END)
        if len(answer.ids) != said or not answer.ids:
            return Check("ids out", Result.DIFFERS, f"{len(answer.ids)} ids came and {said} were counted")
        if answer.finish is FinishReason.STOP and answer.ids[-1] != end:
            return Check("ids out", Result.DIFFERS, f"the turn ends with {answer.ids[-1]}, without {chat.IM_END}")
        specials = [token for token in answer.ids if token >= self.tokenizer.special("<|endoftext|>")]
        named = f", specials {specials}" if specials else ""
        return Check("ids out", Result.OK, f"{said} ids, finish {answer.finish}{named}")

    def _streamed(self, answer: _Answer) -> Check:
        rate = f"first after {answer.first:.2f} s, all after {answer.seconds:.2f} s"
        if answer.chunks < 2 and len(answer.ids) > 2:
            slow = answer.seconds > _TELLING_SECONDS  # our client takes what comes close together as one piece
            result = Result.DIFFERS if slow else Result.NOT_SHOWN
            return Check("stream", result, f"{len(answer.ids)} tokens in one piece ({rate})")
        return Check("stream", Result.OK, f"{len(answer.ids)} tokens in {answer.chunks} pieces, {rate}")

    async def cache(self) -> list[Check]:
        """Are the same prompt, and a prompt that goes on from an answer, found as the rules of the cache say?"""
        if Feature.CACHED_TOKENS not in self.model.facts.features:
            return [Check("cache", Result.NOT_OFFERED, "the server doesn't say what it had cached")]
        model = PrefixModel(self.model.facts.cache)
        lines = "\n".join(f"{number}. The drawer with the number {number * 7} is empty." for number in range(60))
        first = Ids(self.prompt(lines + "\n" + _QUESTION))
        answer = await self.ask(first)
        more = framing.observation_ids(self.tokenizer, ["It is open.\n" + lines])
        end = self.tokenizer.special(chat.IM_END)
        closed = [*answer.ids, *([] if answer.ids[-1:] == [end] else [end])]
        checks = [self._cached("cache: a new prompt", model, first, answer)]
        again = await self.ask(first)
        checks.append(self._cached("cache: the same prompt", model, first, again))
        longer = first.extended(closed).extended(more)
        grown = await self.ask(longer)
        checks.append(self._cached("cache: prompt, turn, something new", model, longer, grown))
        return checks

    def _cached(self, name: str, model: PrefixModel, prompt: Ids, answer: _Answer) -> Check:
        cached, count = answer.usage.cached_tokens, answer.usage.prompt_tokens
        use = model.account(prompt, cached, prompt_tokens=count)
        model.took(prompt, answer.ids, cached, prompt_tokens=count)
        foreseen = f"; the rules foresee {use.expected}" if use.expected is not None else ""
        seen = f"{cached} of {count} tokens cached{foreseen}"
        lost = use.uncached.get(Reason.LOST, 0)
        unknown = use.expected is None and cached < use.cacheable // 2
        return Check(name, Result.DIFFERS if lost or unknown else Result.OK, seen)

    async def turn(self) -> list[Check]:
        """Does a simple task lead to a turn that thinks and then calls, as our parser reads it?"""
        sampling = Sampling(max_new_tokens=self.most_tokens)
        answer = await self.ask(Ids(self.prompt(_TASK, tools=True)), sampling)
        return [self._thought(answer), self._called(answer)]

    def _thought(self, answer: _Answer) -> Check:
        """The turn begins inside `<think>`, and one id ends that."""
        opening, closing = map(self.tokenizer.special, (chat.THINK_OPEN, chat.THINK_CLOSE))
        if answer.ids[:1] == [opening]:
            return Check("thinking", Result.DIFFERS, "the turn opens <think> again, behind the prompt's own")
        if (times := answer.ids.count(closing)) == 1:
            length = answer.ids.index(closing)
            return Check("thinking", Result.OK, f"{length} tokens of thinking, ended by the id {closing}")
        if times:
            return Check("thinking", Result.DIFFERS, f"the thinking was ended {times} times")
        if chat.THINK_CLOSE in self.tokenizer.decode(answer.ids):
            return Check("thinking", Result.DIFFERS, f"{chat.THINK_CLOSE} comes spelled in ordinary tokens")
        return Check("thinking", Result.NOT_SHOWN, f"no {chat.THINK_CLOSE} in {len(answer.ids)} tokens")

    def _called(self, answer: _Answer) -> Check:
        from runtime.tool_calls import parse

        stops = (self.tokenizer.special(chat.IM_END), self.tokenizer.special("<|endoftext|>"))
        text = self.tokenizer.decode([token for token in answer.ids if token not in stops])
        turn = parse(text, TOOLS, finished=answer.finish is FinishReason.STOP)
        if not turn.calls:
            return Check("tool call", Result.NOT_SHOWN, f"no call in {len(answer.ids)} tokens: {text[-60:]!r}")
        call = turn.calls[0]
        said = f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
        if call.name != "read_file" or "path" not in call.arguments or turn.problems:
            problems = "".join(f"; {problem.message}" for problem in turn.problems)
            return Check("tool call", Result.NOT_SHOWN, f"a call of another kind: {said}{problems}")
        return Check("tool call", Result.OK, said)

    async def abort(self) -> list[Check]:
        """Does closing a stream free the request?"""
        before = await self.server.running() if self.server else None
        chunks = self.model.stream(Ids(self.prompt(_LONG)), Sampling(max_new_tokens=4096), request_id=self._request())
        async with aclosing(cast("AsyncGenerator[Chunk, None]", chunks)) as stream:
            async for chunk in stream:
                if chunk.finish is not None:
                    return [Check("abort", Result.NOT_SHOWN, "the turn was over before it could be aborted")]
                break
        started = time.monotonic()
        if before is None or self.server is None:
            await self.ask(Ids(self.prompt("Say yes.")))
            return [Check("abort", Result.NOT_OFFERED, "the server doesn't say how many requests run; it goes on")]
        while (left := await self.server.running()) is not None and left > before:
            if time.monotonic() - started > SETTLE_SECONDS:
                seen = f"{left} requests still run {SETTLE_SECONDS:g} s after the stream was closed"
                return [Check("abort", Result.DIFFERS, seen)]
            await asyncio.sleep(0.05)
        return [Check("abort", Result.OK, f"gone {time.monotonic() - started:.2f} s after the stream was closed")]

    async def context(self) -> list[Check]:
        """Is a request that doesn't fit refused, in words that say why?"""
        length = self.model.context_length
        if self.server is None:
            return [Check("context", Result.OK, f"{length} tokens stated")]
        token = self.tokenizer.encode(" a")[0]
        engine = self.model.facts.engine
        status, text = await self.server.refuse_too_long(engine, self.model.name, length, token)
        if status is None:
            return [Check("context", Result.OK, f"{length} tokens stated; {text}")]
        if says_too_long(status, text):
            return [Check("context", Result.OK, f"{length} tokens stated, more refused with {status}: {_short(text)}")]
        result = Result.FAILED if status >= 500 else Result.DIFFERS
        return [Check("context", result, f"a request for more than {length} tokens got {status}: {_short(text)}")]

    async def reading(self) -> list[Check]:
        """Are the served tokenizer and template ours? Their answers cost no generation."""
        if self.server is None:
            return []
        found = await compare(self.server.transport, self.tokenizer)
        second = [*CONVERSATION, {"role": "assistant", "content": "It computes."}, {"role": "user", "content": "And?"}]
        kept = await compare(self.server.transport, self.tokenizer, messages=second)
        checks = [_read("tokenizer", found.tokenizer), _read("template", found.template)]
        if found.template.agreement is Agreement.SAME:
            checks.append(_read("template: thinking kept", kept.template))
        return checks

    # -- requests ---------------------------------------------------------------------------------------------

    def prompt(self, text: str, *, tools: bool = False) -> list[int]:
        """A conversation of this probe alone, up to the model's turn."""
        system = {"role": "system", "content": f"This is the probe {self.nonce}."}
        return framing.prompt_ids(self.tokenizer, [system, {"role": "user", "content": text}], TOOLS if tools else ())

    async def ask(self, prompt: Ids, sampling: Sampling = _GREEDY) -> _Answer:
        answer, started = _Answer(), time.monotonic()
        async for chunk in self.model.stream(prompt, sampling, request_id=self._request()):
            answer.first = answer.first or time.monotonic() - started
            answer.ids += chunk.ids
            answer.chunks += bool(chunk.ids)
            answer.finish, answer.usage = chunk.finish, chunk.usage
        answer.seconds = time.monotonic() - started
        return answer

    def _request(self) -> str:
        return f"probe-{self.nonce}-{secrets.token_hex(2)}"


def _name(part: Callable[..., Any]) -> str:
    return {"turn": "thinking", "reading": "tokenizer"}.get(part.__name__, part.__name__)


def _read(name: str, finding: Finding) -> Check:
    result = {Agreement.SAME: Result.OK, Agreement.DIFFERS: Result.DIFFERS, Agreement.UNKNOWN: Result.NOT_OFFERED}
    return Check(name, result[finding.agreement], finding.seen)


def _short(text: str, most: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."
