"""How a run can end, as data: the named ends, their exit codes, and the exceptions that carry them up.

The table in `docs/exit-codes.md` is made from here.
"""

from __future__ import annotations

from enum import StrEnum


class End(StrEnum):
    """Why the loop stopped."""

    SUBMITTED = "submitted"
    STEPS = "step limit"
    TOKENS = "token limit"
    TIME = "time limit"
    COST = "cost limit"
    CONTEXT = "context full"
    STOPPED_TALKING = "no tool call"
    MODEL = "model failed"
    SANDBOX = "sandbox failed"
    INTERRUPTED = "interrupted"


class Outcome(StrEnum):
    """What a whole run came to; each has its exit code."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    NO_PATCH = "no patch"
    LIMIT = "limit"
    INPUT = "bad input"
    MODEL = "model failed"
    SANDBOX = "sandbox failed"
    STORAGE = "storage failed"
    INTERRUPTED = "interrupted"


EXIT_CODES: dict[Outcome, int] = {
    Outcome.VERIFIED: 0,
    Outcome.UNVERIFIED: 3,
    Outcome.NO_PATCH: 4,
    Outcome.LIMIT: 5,
    Outcome.INPUT: 6,
    Outcome.MODEL: 7,
    Outcome.SANDBOX: 8,
    Outcome.STORAGE: 9,
    Outcome.INTERRUPTED: 130,
}

EXPLANATIONS: dict[Outcome, str] = {
    Outcome.VERIFIED: "a patch that applies to a clean checkout, makes the reproduction pass and breaks no check",
    Outcome.UNVERIFIED: "a patch, but it was not shown to mend the issue, or a check that passed before fails",
    Outcome.NO_PATCH: "the work tree is as it was; the run says why",
    Outcome.LIMIT: "steps, tokens, time, money, context or nudges ran out; the diff so far is kept",
    Outcome.INPUT: "repository, issue or settings can't be used as given; nothing was started",
    Outcome.MODEL: "the model can't be reached or kept failing; `agent resume` goes on where it stopped",
    Outcome.SANDBOX: "no sandbox, or its image doesn't build, or it died; `agent resume` goes on",
    Outcome.STORAGE: "the run's folder can't be written (a full disk); `agent resume` goes on",
    Outcome.INTERRUPTED: "stopped from outside (Ctrl-C); `agent resume` goes on",
}

_OUTCOME_OF_END: dict[End, Outcome] = {
    End.STEPS: Outcome.LIMIT,
    End.TOKENS: Outcome.LIMIT,
    End.TIME: Outcome.LIMIT,
    End.COST: Outcome.LIMIT,
    End.CONTEXT: Outcome.LIMIT,
    End.STOPPED_TALKING: Outcome.LIMIT,
    End.MODEL: Outcome.MODEL,
    End.SANDBOX: Outcome.SANDBOX,
    End.INTERRUPTED: Outcome.INTERRUPTED,
}


def outcome_of(end: End, *, has_patch: bool, verified: bool) -> Outcome:
    """A verified patch counts as one however the loop ended, except when the run can still be resumed."""
    if end in (End.MODEL, End.SANDBOX, End.INTERRUPTED):
        return _OUTCOME_OF_END[end]
    if verified:
        return Outcome.VERIFIED
    if end is not End.SUBMITTED:
        return _OUTCOME_OF_END[end]
    return Outcome.UNVERIFIED if has_patch else Outcome.NO_PATCH


class LoopEnded(Exception):
    """Ends the loop; `end` says how, the text says what was seen."""

    def __init__(self, end: End, message: str) -> None:
        super().__init__(message)
        self.end = end


class RunProblem(Exception):
    """Ends the whole run before or outside the loop; the text says what happened, to what, what to do next."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class InputProblem(RunProblem):
    """The repository, the issue or a setting can't be used."""

    def __init__(self, message: str) -> None:
        super().__init__(Outcome.INPUT, message)
