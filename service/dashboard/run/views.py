"""What the page of a run shows, as frozen values: chapters, steps, calls, results, and the numbers of each turn.

Texts are as a model or a repository wrote them, cut to a length that can be read; templates escape them. Every part
knows the event that changed it last, so that what is new since an event can be told. Left out: where they come from
(`timeline`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from agent.ends import Outcome
from agent.step_diffs import Change


@dataclass(frozen=True, slots=True)
class Piece:
    """Head and tail of a text, and how many characters between them were left out."""

    head: str = ""
    left_out: int = 0
    tail: str = ""

    def __bool__(self) -> bool:
        return bool(self.head)

    @property
    def size(self) -> int:
        return len(self.head) + len(self.tail)

    @property
    def whole(self) -> int:
        """Characters before it was cut."""
        return self.size + self.left_out

    @property
    def lines(self) -> int:
        """Of what is shown."""
        return self.head.count("\n") + self.tail.count("\n") + 1


NOTHING = Piece()


def piece(text: str, most: int) -> Piece:
    """`text`, or two thirds of `most` characters from its beginning and one third from its end."""
    if len(text) <= most:
        return Piece(text)
    head, tail = most * 2 // 3, most // 3
    return Piece(text[:head], len(text) - head - tail, text[-tail:])


@dataclass(frozen=True, slots=True)
class Argument:
    """Of a call. `block`: too long to stand in the call's line."""

    name: str
    text: Piece
    block: bool


class Answer(StrEnum):
    """How far a call is."""

    WAITING = "waiting"
    RUNNING = "running"
    GIVEN = "given"
    FAILED = "failed"  # the tool says so
    NONE = "none"  # the run ended or went on without one


@dataclass(frozen=True, slots=True)
class CallView:
    """One call and its answer. `exit_code`: of a command that ended by itself; `end`: how another one did."""

    index: int
    name: str
    about: str
    arguments: tuple[Argument, ...]
    seq: int
    answer: Answer = Answer.WAITING
    started: float | None = None
    seconds: float | None = None
    exit_code: int | None = None
    end: str = ""
    output: Piece = NOTHING
    pictures: int = 0
    change: Change | None = None

    @property
    def went_wrong(self) -> bool:
        return self.answer is Answer.FAILED or self.exit_code not in (None, 0) or self.end not in ("", "exited")

    @property
    def size(self) -> int:
        return self.output.size + sum(argument.text.size for argument in self.arguments)


@dataclass(frozen=True, slots=True)
class TurnPoint:
    """The numbers of a turn. Tokens; `cached` None where the host doesn't say; seconds; dollars."""

    turn: int
    prompt: int
    cached: int | None
    written: int
    reasoning: int
    seconds: float
    first_token: float | None
    cost: float | None
    lost: str  # in words, what was computed again that need not have been

    @property
    def share(self) -> float | None:
        return self.cached / self.prompt if self.cached is not None and self.prompt else None


@dataclass(frozen=True, slots=True)
class Step:
    """A turn of the model and what its calls gave. `at`: where its event begins in the log, in bytes.

    `seq` is the event that changed the step itself last; its calls have theirs.
    """

    form: ClassVar[str] = "step"
    number: int  # from 1
    seq: int
    at: int
    time: float
    thinking: Piece
    text: Piece
    calls: tuple[CallView, ...]
    more_calls: int  # that aren't shown
    problems: tuple[str, ...]
    point: TurnPoint
    cut_off: bool  # the model was cut off in the middle
    nudge: Piece = NOTHING

    @property
    def id(self) -> str:
        return f"step-{self.number}"

    @property
    def last(self) -> int:
        """The event that changed it or one of its calls."""
        return max(self.seq, *(call.seq for call in self.calls)) if self.calls else self.seq

    @property
    def changes(self) -> int:
        return sum(call.change is not None for call in self.calls)

    @property
    def went_wrong(self) -> bool:
        return bool(self.nudge) or any(call.went_wrong for call in self.calls)

    @property
    def size(self) -> int:
        """Characters that it takes on a page, about."""
        return self.thinking.size + self.text.size + sum(call.size + 2000 * bool(call.change) for call in self.calls)


@dataclass(frozen=True, slots=True)
class Chapter:
    """What was asked: the issue, then each follow-up."""

    form: ClassVar[str] = "chapter"
    number: int  # from 1
    seq: int
    text: Piece
    source: str
    others: bool = False  # others' commits came on top of the run's work

    @property
    def id(self) -> str:
        return f"chapter-{self.number}"

    @property
    def last(self) -> int:
        return self.seq


class NoteKind(StrEnum):
    INFO = "info"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Note:
    """Something between steps."""

    form: ClassVar[str] = "note"
    seq: int
    time: float
    kind: NoteKind
    text: str

    @property
    def id(self) -> str:
        return f"note-{self.seq}"

    @property
    def last(self) -> int:
        return self.seq


@dataclass(frozen=True, slots=True)
class Side:
    """A check's command on one side of the patch. `exit_code` None where it didn't end by itself."""

    exit_code: int | None
    end: str
    seconds: float
    output: Piece


@dataclass(frozen=True, slots=True)
class CheckView:
    """One command without and with the patch. `verdict`: of `agent.verify.Verdict`, "" while it is running."""

    command: str
    source: str
    verdict: str = ""
    before: Side | None = None
    after: Side | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How the loop ended, what patch was left, what was shown of it, and the outcome. Grows while it is found out."""

    form: ClassVar[str] = "result"
    first: int  # the event that it began with
    seq: int
    end: str = ""  # of the loop
    message: str = ""
    change: Change | None = None  # after the last answer
    files: tuple[tuple[str, str], ...] = ()  # (status letter, path)
    more_files: int = 0
    bytes: int | None = None  # of the patch; None: there is none
    applies: bool | None = None
    checks: tuple[CheckView, ...] = ()
    more_checks: int = 0
    verified: bool | None = None
    outcome: Outcome | None = None

    @property
    def id(self) -> str:
        return f"result-{self.first}"

    @property
    def last(self) -> int:
        return self.seq

    def of(self, verdict: str) -> tuple[CheckView, ...]:
        return tuple(check for check in self.checks if check.verdict == verdict)


Part = Chapter | Step | Note | Result


@dataclass(frozen=True, slots=True)
class Now:
    """What goes on, since when. `words` are ours but for a tool's name or a command, which is `about`."""

    words: str = "getting ready"
    about: str = ""
    since: float = 0.0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the run works with, as the log says."""

    run: str = ""
    title: str = ""  # the first line
    base: str = ""
    notes: tuple[str, ...] = ()
    model: str = ""
    engine: str = ""
    context: int | None = None
    sandbox: str = ""
    image: str = ""
    network: str = "none"
    most_steps: int | None = None
    summary: str = ""  # the model's last words about its work
    requests: tuple[int, int] = (0, 0)  # to package indexes: allowed, refused


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all turns. Tokens, dollars (None: no price is known), seconds in which somebody was at work."""

    turns: int = 0
    prompt: int = 0
    cached: int | None = 0  # None: the host doesn't say
    written: int = 0
    cost: float | None = None
    seconds: float = 0.0

    @property
    def share(self) -> float | None:
        return self.cached / self.prompt if self.cached is not None and self.prompt else None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run up to event `seq`. `left_out`: notes that are too many to be shown; `damage`: why the log ends here."""

    seq: int = -1
    time: float = 0.0
    facts: Facts = field(default_factory=Facts)
    now: Now = field(default_factory=Now)
    totals: Totals = field(default_factory=Totals)
    parts: tuple[Part, ...] = ()
    points: tuple[TurnPoint, ...] = ()
    phases: tuple[tuple[str, float], ...] = ()
    tree: tuple[str, str] = ("", "")  # at the beginning and now
    left_out: int = 0
    damage: str = ""

    @property
    def result(self) -> Result | None:
        """Of the last chapter, if it has one."""
        for part in reversed(self.parts):
            if isinstance(part, Result):
                return part
            if isinstance(part, Chapter):
                break
        return None

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(part for part in self.parts if isinstance(part, Step))

    def since(self, seq: int) -> tuple[Part, ...]:
        """The parts that changed after an event, in their order."""
        return tuple(part for part in self.parts if part.last > seq)
