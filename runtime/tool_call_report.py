"""What the tool-call parser tells a model about deviations: every message says how to write it right.

Only wording and the question which tags a call lacks; the reading itself is `runtime.tool_call_turn`.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.tool_call_extent import Extent
from runtime.tool_call_markup import PARAMETERS, Markup, Tag
from runtime.tool_call_specs import ToolBook
from runtime.tool_call_types import Problem, ProblemKind

Said = list[tuple[ProblemKind, str]]

FORMAT = (
    "write <tool_call>, <function=NAME>, for each parameter <parameter=NAME>, the value and </parameter>, then "
    "</function> and </tool_call>, each tag on a line of its own"
)
SPACING = (ProblemKind.SPACING, f"blanks or newlines are not as documented; {FORMAT}")
TEXT_AFTER_CALL = Problem(
    ProblemKind.TEXT_AFTER_CALL, "There is text after a call; write all text before the first call."
)
STRAY_CLOSERS = Problem(ProblemKind.MALFORMED, f"There are closing tags that close nothing; {FORMAT}.")
CALL_LIKE_TEXT = Problem(
    ProblemKind.MALFORMED, f"The text holds something like a call that can't be read as one; {FORMAT}."
)


def canonical(name: str, values: Sequence[tuple[str, str]]) -> str:
    """A call as the format documents it."""
    body = "".join(f"<parameter={parameter}>\n{text}\n</parameter>\n" for parameter, text in values)
    return f"<tool_call>\n<function={name}>\n{body}</function>\n</tool_call>"


def ignored_in_thinking(names: Sequence[str]) -> Problem:
    """Calls in the thinking that were not run, because calls follow it."""
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return Problem(
        ProblemKind.IGNORED_IN_THINKING,
        f"The calls inside the thinking ({shown}) were not run, only those after </think>; "
        "write every call that should run after </think>.",
    )


def truncated(name: str, characters: int) -> Problem:
    """A call that the end of the text cut off."""
    return Problem(
        ProblemKind.TRUNCATED,
        f"{_subject(name)} was cut off before its end (after {characters} characters) and was not run; "
        f"write it again in full, in smaller steps if it is long: {FORMAT}.",
    )


def malformed(name: str) -> Problem:
    """Something that begins as a call and can't be read as one."""
    return Problem(
        ProblemKind.MALFORMED, f"{_subject(name)} could not be read and was not run; write it again: {FORMAT}."
    )


def deviations(markup: Markup, book: ToolBook, at: int, function: int, extent: Extent, *, in_thinking: bool) -> Said:
    """What is wrong with a call as a whole, its parameters aside."""
    name = markup.marks[function].name
    proper = book.proper(name)
    found: Said = []
    if in_thinking:
        found.append((ProblemKind.CALL_IN_THINKING, "it was written inside the thinking; write </think> first"))
    if not book.knows(proper):
        listed = ", ".join(f"`{known}`" for known in book.names[:40])
        found.append((ProblemKind.UNKNOWN_TOOL, f"there is no such tool; the tools are {listed}"))
    if proper != name:
        found.append((ProblemKind.DRIFTED_TAG, f"write the name without quotes: <function={proper}>"))
    if at == function:
        found.append((ProblemKind.MISSING_OPENER, f"<tool_call> is missing before <function={name}>"))
    found += _closers(markup, at, function, extent)
    if extent.swallowed:
        found.append(
            (
                ProblemKind.EMBEDDED_MARKUP,
                "a value holds the beginning of another call, which was kept as text; "
                "if it was meant as a call, close the first call before it",
            )
        )
    return found


def _closers(markup: Markup, at: int, function: int, extent: Extent) -> Said:
    tags = [markup.tag(index) for index in range(extent.stop, extent.end)]
    wanted = {Tag.FUNCTION_END: "</function>"}
    if at < function:  # without <tool_call>, </tool_call> is not missed
        wanted[Tag.CALL_END] = "</tool_call>"
    if markup.tag(function + 1) in PARAMETERS and Tag.DRIFTED_END not in tags:
        wanted = {Tag.PARAMETER_END: "</parameter>", **wanted}
    missing = [spelled for tag, spelled in wanted.items() if tag not in tags]
    found: Said = []
    if Tag.DRIFTED_END in tags:
        found.append((ProblemKind.DRIFTED_TAG, "the last value does not end with exactly </parameter>"))
    if missing:
        found.append((ProblemKind.MISSING_CLOSER, f"{' and '.join(missing)} missing; {FORMAT}"))
    return found


def _subject(name: str) -> str:
    return f"The call of `{name[:80]}`" if name else "A call"
