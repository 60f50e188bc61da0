"""The `submit` tool: the first call shows the model its own diff and a checklist, the next one ends the run.

Seeing the diff once makes models remove leftovers and notice a half-done change. A diff that has changed since it was
shown is shown once more, so at most two calls in a run do not end it. Left out: whether the patch is right
(`agent.verify`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from tools.arguments import BadArgument, failure, optional_text
from tools.base import Observation, ToolContext
from tools.bounded import cut_middle

SPEC: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "submit",
        "description": (
            "Finish the task. The first call shows your change as a diff, with a checklist; look it through, correct "
            "what is wrong, then call submit again to end the work. Your change is taken from the working tree; there "
            "is no need to commit it."
        ),
        "parameters": {
            "type": "object",
            "properties": {
                "summary": {
                    "type": "string",
                    "description": "What was wrong and what you changed, in a few sentences for a reviewer.",
                },
                "reproduction": {
                    "type": "string",
                    "description": (
                        "A shell command that fails without your change and exits with 0 with it, run in the "
                        "repository's root, for example one test. Leave it out if there is none."
                    ),
                },
            },
            "required": ["summary"],
        },
    },
}

_KEY: Final = "submit"
_MOST_SHOWN: Final = 2
_MOST_FILES: Final = 20
_FILE: Final = re.compile(r'^diff --git (?:a/.* b/(?P<plain>.*)|"a/.*" "b/(?P<quoted>.*)")$', re.MULTILINE)
_NEW_FILE: Final = re.compile(r'^diff --git .* "?b/(?P<path>.*?)"?\nnew file mode', re.MULTILINE)

_CHECKLIST: Final = """\
Before you end the work, check:
1. Does the diff solve the whole issue, for the other cases and callers, too?
2. Did you run the reproduction and the tests near the change after the last edit?
3. Is everything in the diff meant? Remove debug output, scratch files and changes that don't belong to the issue.
Correct what is wrong. Then call submit again, which ends the work."""

_EMPTY: Final = """\
There is no change: the working tree is as it was at the start, and no patch can be made from it. (Files that git \
ignores, and files outside the repository, don't count.)
If the issue can be solved, go on. If it cannot, or if nothing is wrong, call submit again and say why in the summary; \
this ends the work without a patch."""


class Submit:
    @property
    def spec(self) -> dict[str, Any]:
        return SPEC

    async def __call__(self, context: ToolContext, arguments: Mapping[str, Any]) -> Observation:
        past: dict[str, Any] = context.state.get(_KEY, {})
        try:
            summary = optional_text(arguments, "summary", clean=False) or past.get("summary")
            reproduction = optional_text(arguments, "reproduction") or past.get("reproduction")
        except BadArgument as error:
            return failure(f"{error} The work has not ended.")
        if not summary or not summary.strip():
            return failure(
                "the argument `summary` is missing: say what was wrong and what you changed. The work has not ended."
            )
        diff = await context.diff()
        digest = hashlib.sha256(diff.encode(errors="replace")).hexdigest()[:16]
        shown = past.get("shown", 0)
        ends = bool(shown) and (digest == past.get("diff") or shown >= _MOST_SHOWN)
        context.state[_KEY] = {
            "summary": summary,
            "reproduction": reproduction,
            "diff": digest,
            "shown": shown if ends else shown + 1,
        }
        data = {"summary": summary, "reproduction": reproduction, "empty": not diff.strip()}
        if ends:
            return Observation("Submitted. The work has ended.", ends_run=True, data=data)
        return Observation(_review(diff, bool(shown), context.max_observation), data=data)


def _review(diff: str, again: bool, limit: int) -> str:
    if not diff.strip():
        return _EMPTY
    opening = "The change is another one than the one you have seen. " if again else ""
    head = f"{opening}This is your change, in {_files(diff)}:"
    notes = "\n".join([*_remarks(diff), _CHECKLIST])
    room = limit - len(head) - len(notes) - 4
    return f"{head}\n\n{cut_middle(diff.rstrip(), room, where='see it with `git diff`')}\n\n{notes}"


def _files(diff: str) -> str:
    names = [match["plain"] or match["quoted"] for match in _FILE.finditer(diff)]
    if len(names) > _MOST_FILES:
        return f"{len(names)} files"
    return ", ".join(names) or "no named file"


def _remarks(diff: str) -> list[str]:
    """What a reviewer would ask about at once."""
    remarks = []
    if added := [match["path"] for match in _NEW_FILE.finditer(diff)]:
        listed = ", ".join(added[:_MOST_FILES]) + (", ..." if len(added) > _MOST_FILES else "")
        remarks.append(f"New files: {listed}. Remove those that are not part of the solution.")
    if re.search(r"^\+(?:<{7}|>{7}) ", diff, re.MULTILINE):
        remarks.append("There are conflict markers in it.")
    if "\nGIT binary patch\n" in diff:
        remarks.append("There are binary files in it.")
    return remarks
