"""The loop: the model writes a turn, its calls are executed, their observations join the transcript, again.

Everything here is appended to the event log before the next thing starts. Left out: what the tools do (`tools`),
what is kept (`agent.session`), and what becomes of the diff (`agent.fix`).
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from agent import limits, nudges
from agent.ends import End, LoopEnded
from agent.events import EventType
from agent.images import Shelf
from agent.session import SUBMIT, Session, TurnRecord
from agent.worktree import Worktree, WorktreeProblem
from runtime.incremental_decode import IncrementalDecoder
from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    ContextExceeded,
    FinishReason,
    Image,
    Model,
    ModelError,
    RequestOptions,
    Sampling,
)
from runtime.tool_calls import ParsedTurn, ToolBook, ToolCallParser
from runtime.transcript import TranscriptError
from sandbox.base import SandboxDied, SandboxError
from tools.base import Observation, Tool, ToolContext

MIN_ROOM = 512  # tokens that must be left in the context for a turn to be worth asking for
Revive = Callable[[Session, str, SandboxDied], Awaitable[tuple[Observation, LoopEnded | None]]]


@dataclass(slots=True)
class Agent:
    """What a run works with; the session is what it works on."""

    model: Model
    sampling: Sampling
    tools: dict[str, Tool]
    worktree: Worktree
    context: ToolContext
    options: RequestOptions = NO_OPTIONS
    shelf: Shelf | None = None  # of a run whose model sees pictures
    on_prompt: Callable[[int], None] = lambda _: None  # told the length of each prompt, in tokens
    revive: Revive | None = None  # None: a sandbox's death ends the run
    book: ToolBook = field(init=False)  # the tools' specs as the parser reads them, once for all turns

    def __post_init__(self) -> None:
        self.book = ToolBook([tool.spec for tool in self.tools.values()])


async def run(agent: Agent, session: Session) -> LoopEnded:
    """Go on from wherever the session is, until the run ends. Returns how it ended."""
    try:
        turn = session.open_turn  # a resumed run may have a turn that is not answered yet
        while True:
            turn = turn or await generate(agent, session)
            for index in range(len(turn.observations), len(turn.calls)):
                if turn.ended_by is None:
                    await execute(agent, session, turn, index)
            if turn.ended_by is not None:
                raise LoopEnded(End.SUBMITTED, "the model submitted its work")
            session.record_observed(turn.observations or [nudges.no_call(turn.problems)], nudge=not turn.calls)
            turn = None
    except LoopEnded as ended:
        return ended
    except SandboxError as error:
        return LoopEnded(End.SANDBOX, str(error))


async def generate(agent: Agent, session: Session) -> TurnRecord:
    """Let the model write one turn, shown live as it comes."""
    limits.check(session.limits, session.spent)
    sampling = _fit(agent, session)
    number, prompt = session.spent.steps, session.transcript.ids
    agent.on_prompt(len(prompt) + _more_for(_images(agent)))
    session.log.append(EventType.TURN_STARTED, turn=number, prompt=len(prompt), max_new_tokens=sampling.max_new_tokens)
    started, ids = time.monotonic(), list[int]()
    try:
        async with asyncio.timeout(session.limits.seconds - session.spent.seconds):
            parsed, last, first = await _stream(agent, session, sampling, ids)
    except (TimeoutError, ModelError) as error:
        session.log.append(EventType.TURN_DROPPED, turn=number, ids=ids, why=str(error) or "time limit")
        raise _end_of(error, session) from None
    try:
        turn = session.record_turn(ids, parsed, last, time.monotonic() - started, first and first - started)
    except TranscriptError as error:
        session.log.append(EventType.TURN_DROPPED, turn=number, ids=ids, why=str(error))
        raise LoopEnded(End.MODEL, f"{agent.model.name} wrote what can't be a turn: {error}") from None
    if note := limits.unknown_cost(session.limits, session.spent):
        session.log.append(EventType.PROGRESS, text=note)
    return turn


async def _stream(
    agent: Agent, session: Session, sampling: Sampling, ids: list[int]
) -> tuple[ParsedTurn, Chunk, float | None]:
    """The turn, its last chunk, and when its first token came."""
    tokenizer = agent.model.tokenizer
    stops = {tokenizer.special("<|im_end|>"), tokenizer.special("<|endoftext|>")}
    parser = ToolCallParser(agent.book, thinking=session.transcript.enable_thinking)
    decoder = IncrementalDecoder(tokenizer)
    last, first = Chunk(()), None
    request = f"{session.log.run_id}-{session.spent.steps}"
    prompt, images = session.transcript.ids, _images(agent)
    options = replace(agent.options, images=images) if images else agent.options
    async for last in agent.model.stream(prompt, sampling, request_id=request, options=options):
        ids.extend(last.ids)
        first = first or (time.monotonic() if last.ids else None)
        for event in parser.feed(decoder.feed([i for i in last.ids if i not in stops])):
            session.log.append(EventType.DELTA, event=event, tokens=len(ids))
    for event in parser.feed(decoder.close()):
        session.log.append(EventType.DELTA, event=event, tokens=len(ids))
    return parser.close(finished=last.finish is FinishReason.STOP), last, first


async def execute(agent: Agent, session: Session, turn: TurnRecord, index: int) -> None:
    """Execute one call and keep what it did to the work tree."""
    call = turn.calls[index]
    left = session.limits.seconds - session.spent.seconds
    session.log.append(EventType.CALL_STARTED, turn=turn.number, call=index, name=call.name, arguments=call.arguments)
    started = time.monotonic()
    agent.context.state = copy.deepcopy(session.tool_state)
    ended: LoopEnded | None = None
    try:
        async with asyncio.timeout(left):
            try:
                observation = await _answer(agent, turn, index)
                kept = await _keep(agent, observation)
            except SandboxDied as died:
                if agent.revive is None:
                    raise
                kept, (observation, ended) = None, await agent.revive(session, call.name, died)
    except TimeoutError:
        raise LoopEnded(End.TIME, f"the time limit came while {call.name} was running") from None
    text = nudges.with_notes(observation.text, turn, index, [kept, limits.warning(session.limits, session.spent)])
    session.record_observation(
        index, observation, text, agent.context.state, agent.worktree.tree, time.monotonic() - started
    )
    if ended is not None:
        raise ended


async def _answer(agent: Agent, turn: TurnRecord, index: int) -> Observation:
    call = turn.calls[index]
    if any(earlier.name == SUBMIT for earlier in turn.calls[:index]):
        return Observation(nudges.AFTER_SUBMIT, failed=True)
    tool = agent.tools.get(call.name)
    if tool is None:
        return Observation(nudges.unknown_tool(call.name, list(agent.tools)), failed=True)
    try:
        return await tool(agent.context, call.arguments)
    except WorktreeProblem as problem:
        return Observation(f"Error: {problem}", failed=True)


async def _keep(agent: Agent, observation: Observation) -> str | None:
    """Keep the work tree; a note for the model when it can't be kept as it is."""
    if observation.may_have_changed:
        try:
            await agent.worktree.checkpoint()
        except WorktreeProblem as problem:
            return f"[note: {problem}]"
    return None


def _images(agent: Agent) -> tuple[Image, ...]:
    return agent.shelf.images() if agent.shelf else ()


def _more_for(images: Sequence[Image]) -> int:
    """Tokens that pictures take in a prompt beside the one that each has in the ids."""
    if not images:
        return 0
    from runtime.models.pictures import most_tokens

    return sum(most_tokens(image) - 1 for image in images)


def _fit(agent: Agent, session: Session) -> Sampling:
    """Sampling whose output fits into the context and the token limit."""
    room = agent.model.context_length - len(session.transcript.ids) - _more_for(_images(agent))
    if room < MIN_ROOM:
        raise LoopEnded(End.CONTEXT, f"{room} tokens are left of {agent.model.context_length}")
    most = min(agent.sampling.max_new_tokens, room, session.limits.tokens - session.spent.tokens)
    return agent.sampling.limited_to(most)


def _end_of(error: Exception, session: Session) -> LoopEnded:
    if isinstance(error, TimeoutError):
        return LoopEnded(End.TIME, f"the time limit of {session.limits.seconds:.0f} s came while the model was writing")
    return LoopEnded(End.CONTEXT if isinstance(error, ContextExceeded) else End.MODEL, str(error))
