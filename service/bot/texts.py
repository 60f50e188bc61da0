"""All that the bot writes: the status comment, the pull request, answers. Pure functions of what happened.

Every word that isn't ours goes through `service.bot.quiet`. The status comment is one and is edited; what a person has
to know comes first. Left out: markers and the forge's limit of length (the forge's client puts both).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.ends import Outcome
from service.bot.quiet import code, fenced, line, quoted
from service.bot.story import CheckSeen, Story, Used

_MOST_FILES = 30
_MOST_OUTPUT = 1500  # characters of one check's output, from its end
_VERDICTS = {
    "fixed": "fails without the change, passes with it",
    "kept": "passes without and with it",
    "broken": "**passes without the change and fails with it**",
    "failing": "fails without and with it",
    "unclear": "could not be run to its end",
}
_WHAT = {"A": "added", "D": "removed", "M": "changed", "T": "changed in kind"}
COMMANDS = {
    "fix": "solve this issue; what follows the word is said along with it",
    "continue": "go on where the last run ended, with what you say",
    "retry": "begin again, from the default branch as it is now",
    "stop": "stop what is going on here",
    "explain": "say what the last run did and why it ended",
}


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of ours; empty ones aren't shown."""

    run: str = ""
    help: str = ""


BEGUN_ANEW = "the earlier run is gone with the machine that had it, so I begin anew with what was said since"


def working(what: str, links: Links, since: str = "") -> str:
    """The status comment while a run is going on."""
    more = f" ({since})" if since else ""
    return f"On it: {what}{more}.{_see(links)}"


def opened(story: Story, pull: int, links: Links) -> str:
    """The status comment after a pull request was opened or updated. Our own #number makes the link."""
    shown = "It was shown to work" if story.verified else "**It was not shown to work**"
    return f"See #{pull}. {shown}: {_shown_in_short(story)}.{_see(links)}"


def without_patch(story: Story, links: Links, still: int | None = None) -> str:
    """The status comment after a run that changed nothing: what was found, or what went wrong.

    `still`: a pull request that stays as it was.
    """
    if story.summary and story.outcome not in (Outcome.MODEL, Outcome.SANDBOX, Outcome.STORAGE):
        kept = f" #{still} stays as it is." if still else ""
        return f"I changed nothing.{kept} What I found:\n\n{quoted(story.summary)}\n\n{_used(story.used)}{_see(links)}"
    return f"There is no change to show: {_why(story)}.\n\n{_used(story.used)}{_see(links)}"


def pull_title(issue_title: str) -> str:
    """Of the pull request, after the issue's."""
    return line(issue_title, 120) or "Solve the issue"


def pull_body(story: Story, issue: int, links: Links) -> str:
    """Cause, change, evidence, what was not shown, cost. The issue is closed by merging only where it was verified."""
    closing = f"Fixes #{issue}." if story.verified else f"For #{issue}."
    parts = [
        closing if story.verified else f"{closing} **This change was not shown to solve it: look at it with care.**",
        "### Cause and change",
        _cause(story),
        _files(story),
        "### Evidence",
        _evidence(story),
        "### What was not shown",
        "\n".join(f"- {limit}" for limit in _limits(story)),
        "---",
        f"{_used(story.used)} Model {code(story.model)}, from {code(story.base[:12])}.{_see(links)}",
        "Review it as you would a stranger's: comments here are read and answered with a further commit.",
    ]
    return "\n\n".join(part for part in parts if part)


def answered(story: Story, commit: str | None) -> str:
    """The answer in the thread of a review comment."""
    done = f"Done in {commit[:12]}." if commit else "I changed nothing for this."
    said = f"\n\n{quoted(story.summary, 2000)}" if story.summary else ""
    return f"{done}{said}"


def explained(story: Story, links: Links) -> str:
    """The answer to `explain`."""
    parts = [
        f"The last run {_outcome(story)}.",
        quoted(story.summary) if story.summary else "",
        _evidence(story) if story.checks else "",
        f"{_used(story.used)}{_see(links)}",
    ]
    return "\n\n".join(part for part in parts if part)


def refused(why: str) -> str:
    return f"I can't do that: {why}."


def stopped(by: str, links: Links) -> str:
    return f"Stopped, as {code(by)} asked.{_see(links)}" if by else f"Stopped.{_see(links)}"


def failed(why: str, links: Links, again: bool) -> str:
    """The status comment after something of ours failed. `why` may hold words that aren't ours."""
    then = " I try again by myself." if again else " A maintainer can ask for `retry`."
    return f"This did not work out, and the change isn't to blame: {line(why, 400)}.{then}{_see(links)}"


def help_text(name: str, links: Links) -> str:
    rows = "\n".join(f"- `@{name} {word}`: {what}" for word, what in COMMANDS.items())
    return f"What I understand, at the beginning of a line:\n\n{rows}{_see(links)}"


# -- parts --------------------------------------------------------------------------------------------------------


def _see(links: Links) -> str:
    shown = [f"[{name}]({url})" for name, url in (("trajectory", links.run), ("help", links.help)) if url]
    return f" ({', '.join(shown)})" if shown else ""


def _shown_in_short(story: Story) -> str:
    fixed = [check for check in story.checks if check.verdict == "fixed"]
    broken = [check for check in story.checks if check.verdict == "broken"]
    if broken:
        return f"{code(broken[0].command, 120)} passed before the change and fails with it"
    if fixed:
        return f"{code(fixed[0].command, 120)} failed before the change and passes with it"
    return "no command was found that fails before the change and passes with it"


def _cause(story: Story) -> str:
    """What the run said at first, then what each follow-up added."""
    said = [words for words in (*story.earlier, story.summary) if words]
    if not said:
        return "The run ended before it could say what was wrong."
    return "\n\nThen, on what was said here:\n\n".join(map(quoted, said))


def _files(story: Story) -> str:
    rows = [f"- {code(path)} {_WHAT.get(status, 'changed')}" for status, path in story.files[:_MOST_FILES]]
    if (more := len(story.files) - _MOST_FILES) > 0:
        rows.append(f"- and {more} more")
    return "\n".join(rows)


def _evidence(story: Story) -> str:
    if story.applies is False:
        return "The patch did not apply to a clean checkout, so nothing was run."
    if not story.checks:
        return "None: no command was found that could show it."
    intro = "In fresh sandboxes, on a clean checkout, each command without the change and with it:"
    return "\n\n".join([intro, "\n".join(map(_row, story.checks)), *map(_output, _telling(story.checks))])


def _row(check: CheckSeen) -> str:
    ends = f"exit {_exit(check.before)} before, {_exit(check.after)} after"
    return f"- {code(check.command)}: {_VERDICTS.get(check.verdict, check.verdict)} ({ends}; {check.source})"


def _exit(code_: int | None) -> str:
    return "none" if code_ is None else str(code_)


def _telling(checks: tuple[CheckSeen, ...]) -> list[CheckSeen]:
    """Those whose output says something: what was broken, and the first that was fixed."""
    broken = [check for check in checks if check.verdict == "broken"][:2]
    return broken + [check for check in checks if check.verdict == "fixed"][:1]


def _output(check: CheckSeen) -> str:
    sides = (("without the change", check.output_before), ("with it", check.output_after))
    blocks = [f"{name}:\n\n{fenced(_end(text))}" for name, text in sides if text.strip()]
    if not blocks:
        return ""
    inner = "\n\n".join(blocks)
    return f"<details><summary>Output of the command</summary>\n\n{code(check.command)}\n\n{inner}\n\n</details>"


def _end(text: str) -> str:
    return text if len(text) <= _MOST_OUTPUT else "…" + text[-_MOST_OUTPUT:]


def _limits(story: Story) -> list[str]:
    limits = []
    if story.outcome is Outcome.LIMIT:
        limits.append(f"The run was ended early ({line(story.message)}): the change may be half done.")
    if not story.verified:
        limits.append("No command fails without the change and passes with it; nobody knows that it helps.")
    limits += [f"{code(c.command)} fails with and without it." for c in story.checks if c.verdict == "failing"]
    limits += [f"{code(c.command)} could not be run to its end." for c in story.checks if c.verdict == "unclear"]
    limits += [line(note, 300) for note in story.notes]
    if story.network == "none":
        limits.append("Tests that need a network: there was none.")
    limits.append("Anything that the commands above don't run.")
    return limits


def _why(story: Story) -> str:
    why = {
        Outcome.NO_PATCH: "the run ended without a change",
        Outcome.LIMIT: f"the run was ended ({line(story.message)})",
        Outcome.MODEL: f"the model could not be asked ({line(story.message)})",
        Outcome.SANDBOX: f"there was no sandbox to work in ({line(story.message)})",
        Outcome.STORAGE: "our disk is full",
        Outcome.INTERRUPTED: "the run was stopped",
        Outcome.INPUT: line(story.message, 400),
    }
    return why.get(story.outcome, "the run hasn't ended") if story.outcome else "the run hasn't ended"


def _outcome(story: Story) -> str:
    if story.outcome is None:
        return "is still going on"
    if story.has_patch:
        return "made a change that was shown to work" if story.verified else "made a change that was not shown to work"
    return f"made no change: {_why(story)}"


def _used(used: Used) -> str:
    minutes = used.seconds / 60
    took = f"{minutes:.0f} min" if minutes >= 1 else f"{used.seconds:.0f} s"
    cached = f", {used.cached / used.prompt:.0%} of it cached" if used.cached is not None and used.prompt else ""
    money = f", ${used.cost:.2f}" if used.cost is not None else ""
    return f"{used.turns} turns in {took}: {used.prompt:,} tokens read{cached}, {used.written:,} written{money}."
