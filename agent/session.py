"""The state of one run, all of which the event log can rebuild: transcript, tool state, work tree, what was spent.

Each `record_*` method appends its event first and changes the state after, and `replay` does the same changes
from the events of an earlier process, so a killed run goes on with the very ids and trees that it had.

Left out: doing things (`agent.loop`), and the stages after the loop (`agent.fix`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.ends import End
from agent.events import Event, EventLog, EventType
from agent.follow_up import NOT_RUN
from agent.images import body_of
from agent.limits import Limits, Spent

if TYPE_CHECKING:
    from runtime.chat import Body
    from runtime.models.base import Chunk
    from runtime.prefix import PrefixModel
    from runtime.tokenizer import Tokenizer
    from runtime.tool_calls import ParsedTurn
    from runtime.transcript import Transcript
    from tools.base import Observation


SUBMIT = "submit"  # what it shows must be read before anything else is done


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a turn, as it is executed and logged."""

    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class TurnRecord:
    """A turn that the model wrote, and how far its calls are answered."""

    number: int
    calls: tuple[Call, ...]
    problems: tuple[tuple[int | None, str], ...]  # (call that it belongs to, message)
    observations: list[Body] = field(default_factory=list)
    ended_by: int | None = None  # the call that ended the run


@dataclass(slots=True)
class Session:
    """A run in progress. `tree` is the work tree after the last answered call."""

    log: EventLog
    tokenizer: Tokenizer
    limits: Limits
    tree: str
    spent: Spent = field(default_factory=Spent)
    tool_state: dict[str, Any] = field(default_factory=dict)
    open_turn: TurnRecord | None = None
    submitted: Mapping[str, Any] | None = None
    thinking: bool = True  # the model's turns begin inside `<think>`
    transcript: Transcript = field(init=False)
    prefix: PrefixModel = field(init=False)  # what the host should have cached
    _host: Mapping[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        from runtime.prefix import PrefixModel
        from runtime.transcript import Transcript

        self.prefix = PrefixModel(None)
        self.transcript = Transcript(self.tokenizer, enable_thinking=self.thinking)

    # -- what happens ---------------------------------------------------------------------------------------

    def record_prompt(self, messages: Sequence[Mapping[str, Any]], specs: Sequence[Mapping[str, Any]]) -> None:
        from runtime.transcript import Prompt

        prompt = Prompt(tuple(messages), tuple(specs))
        ids = self.transcript.encode(prompt)
        self.log.append(EventType.PROMPT, ids=list(ids), messages=list(messages), tools=list(specs))
        self.transcript.append_ids("prompt", ids)

    def record_turn(
        self, ids: Sequence[int], parsed: ParsedTurn, last: Chunk, seconds: float, first_token: float | None = None
    ) -> TurnRecord:
        """A finished turn. The ids go into the transcript exactly as the model wrote them.

        `first_token` is how many of the seconds passed before the first of them came.
        """
        from runtime.transcript import Turn

        whole, usage = self.transcript.encode(Turn(tuple(ids), str(last.finish))), last.usage
        use = self.prefix.account(self.transcript.ids, usage.cached_tokens, prompt_tokens=usage.prompt_tokens)
        event = self.log.append(
            EventType.TURN,
            turn=self.spent.steps,
            ids=list(whole),
            finish=last.finish,
            reasoning=parsed.reasoning,
            content=parsed.content,
            calls=[{"name": call.name, "arguments": call.arguments} for call in parsed.calls],
            problems=[{"call": p.call, "kind": p.kind, "message": p.message} for p in parsed.problems],
            usage={
                "prompt": usage.prompt_tokens,
                "cached": usage.cached_tokens,
                "completion": usage.completion_tokens or len(ids),
                "reasoning": usage.reasoning_tokens,
                "cost": usage.cost,
            },
            prefix=use.to_json(),
            seconds=round(seconds, 3),
            first_token=None if first_token is None else round(first_token, 3),
            spent=round(self.spent.seconds, 3),
        )
        return self._take_turn(event)

    def record_observation(
        self, index: int, observation: Observation, text: str, state: Mapping[str, Any], tree: str, seconds: float
    ) -> None:
        event = self.log.append(
            EventType.OBSERVATION,
            turn=self.spent.steps - 1,
            call=index,
            text=text,
            failed=observation.failed,
            ends_run=observation.ends_run,
            facts=dict(observation.data),
            state=dict(state),
            tree=tree,
            seconds=round(seconds, 3),
            spent=round(self.spent.seconds, 3),
        )
        self._take_observation(event)

    def record_observed(self, texts: Sequence[Body], nudge: bool) -> None:
        """The answers to the open turn join the transcript."""
        from runtime.transcript import Observations

        ids = self.transcript.encode(Observations(tuple(texts)))
        text = texts[0] if nudge else None
        event = self.log.append(EventType.OBSERVED, turn=self.spent.steps - 1, ids=list(ids), nudge=text)
        self._take_observed(event)

    def record_followed(self, text: str) -> None:
        """What the user says after an end joins the transcript, behind what the last turn's calls gave."""
        from runtime.transcript import SegmentKind, UserMessage

        segments: list[dict[str, Any]] = []
        if self.transcript.segments[-1].kind is not SegmentKind.TURN:  # it ended where the model was to speak
            ids = self.transcript.encode(self.transcript.empty_turn())
            segments.append({"kind": SegmentKind.TURN, "ids": list(ids)})
        ids = self.transcript.encode(UserMessage(text, self._answers()))
        segments.append({"kind": SegmentKind.USER_MESSAGE, "ids": list(ids)})
        event = self.log.append(EventType.FOLLOWED, text=text, segments=segments, spent=round(self.spent.seconds, 3))
        self._take_followed(event)

    def _answers(self) -> list[Body]:
        """One for each call of the turn that is open; those that a limit kept from being executed say so."""
        if self.open_turn is None:
            return []
        given = self.open_turn.observations
        return given + [NOT_RUN] * (len(self.open_turn.calls) - len(given))

    # -- the same changes, from the log ---------------------------------------------------------------------

    def replay(self) -> None:
        """Bring a fresh session to where the log's last event left it."""
        for event in self.log.events:
            match event.type:
                case EventType.MODEL_CONNECTED:
                    self._take_host(event)
                case EventType.PROMPT:
                    self.transcript.append_ids("prompt", tuple(event.data["ids"]))
                case EventType.TURN:
                    self._take_turn(event)
                case EventType.OBSERVATION:
                    self._take_observation(event)
                case EventType.OBSERVED:
                    self._take_observed(event)
                case EventType.FOLLOW_UP:
                    self.tree = event.data["tree"] or self.tree
                case EventType.FOLLOWED:
                    self._take_followed(event)
                case _:
                    pass
            if isinstance(spent := event.data.get("spent"), int | float):
                self.spent.earlier_seconds = float(spent)

    def _take_host(self, event: Event) -> None:
        """What is known of a cache holds only for the host that it was seen on."""
        from runtime.models.base import Feature
        from runtime.prefix import CacheRules, PrefixModel, Strategy

        data = event.data
        known = {key: data.get(key) for key in ("target", "name", "cache")}
        if known != self._host:
            said = data.get("cache")
            rules = CacheRules(**{**said, "strategy": Strategy(said["strategy"])}) if said else None
            self._host = known
            self.prefix = PrefixModel(rules, says_cached=Feature.CACHED_TOKENS in data["features"])

    def _take_turn(self, event: Event) -> TurnRecord:
        data, usage = event.data, event.data["usage"]
        ids = tuple(data["ids"])
        written = ids if data["finish"] == "stop" else ids[:-1]  # the turn's end is ours where the model was cut off
        self.prefix.took(self.transcript.ids, written, usage["cached"], prompt_tokens=usage["prompt"])
        self.transcript.append_ids("turn", ids)
        self.spent.steps += 1
        self.spent.tokens += usage["completion"]
        cost = usage.get("cost")
        self.spent.cost += cost or 0.0
        self.spent.unpriced += cost is None
        self.open_turn = TurnRecord(
            number=data["turn"],
            calls=tuple(Call(call["name"], call["arguments"]) for call in data["calls"]),
            problems=tuple((problem["call"], problem["message"]) for problem in data["problems"]),
        )
        return self.open_turn

    def _take_observation(self, event: Event) -> None:
        assert self.open_turn is not None
        data = event.data
        self.tree = data["tree"]
        self.tool_state = data["state"]
        self.open_turn.observations.append(body_of(data["text"], data["facts"]))
        if data["ends_run"]:
            self.open_turn.ended_by = data["call"]
            self.submitted = data["facts"]

    def _take_observed(self, event: Event) -> None:
        self.transcript.append_ids("observations", tuple(event.data["ids"]))
        self.spent.nudges = self.spent.nudges + 1 if event.data["nudge"] is not None else 0
        self.open_turn = None

    def _take_followed(self, event: Event) -> None:
        for segment in event.data["segments"]:
            self.transcript.append_ids(segment["kind"], tuple(segment["ids"]))
        self.open_turn, self.submitted, self.spent.nudges = None, None, 0
        self.tool_state = {key: value for key, value in self.tool_state.items() if key != SUBMIT}  # shown anew

    @property
    def loop_end(self) -> End | None:
        """How the loop ended, if it has."""
        event = self.log.last(EventType.LOOP_ENDED)
        return End(event.data["end"]) if event else None
