"""The `bash` tool: one command in a process of its own, its output bounded, its end explained.

The working directory and exported variables are carried from call to call by the sandbox. Left out: deadlines,
process groups and the file with the whole output, which are the sandbox's.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import shlex
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sandbox.base import CommandEnd, CommandResult
from tools.arguments import BadArgument, failure, text
from tools.base import Observation, ToolContext
from tools.bounded import decoded, head_of_lines, joined, omission, plain, tail_of_lines
from tools.repeats import failures_in_a_row, forget_failures

if TYPE_CHECKING:
    from sandbox.base import Sandbox

SPEC: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": (
            "Run a command with bash. The answer holds what it printed (both streams together) and its exit "
            "status. The working directory and exported variables are kept for the next call, and background "
            "processes live on. There is no terminal and no input: give input through a pipe or a "
            "here-document, and don't start editors, pagers or prompts. Long output is cut in the middle; the "
            "whole is then kept in a file, which the answer names."
        ),
        "parameters": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "The command, or a script of several lines."},
                "timeout": {
                    "type": "number",
                    "description": "Seconds after which the command is ended. Only needed for long ones.",
                },
            },
            "required": ["command"],
        },
    },
}

_CWD: Final = "cwd"  # in the tools' state: where the next command starts
_MOST_NAMED: Final = 5  # background processes, and characters of each one's command line
_MOST_OF_A_NAME: Final = 60
_ROOM_FOR_NOTES: Final = 1000  # characters of an observation that aren't output
_CRASHES: Final = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTERM", "SIGXCPU", "SIGXFSZ")
_WANTED_INPUT: Final = re.compile(r"EOFError: EOF when reading a line|not a terminal|not a tty|no tty present")


class Bash:
    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None  # the one whose session this process has seen

    @property
    def spec(self) -> dict[str, Any]:
        return SPEC

    async def __call__(self, context: ToolContext, arguments: Mapping[str, Any]) -> Observation:
        try:
            command = text(arguments, "command")
            timeout, notes = _timeout(context, arguments)
        except BadArgument as error:
            return failure(f"{error} Nothing was run.")
        if not command.strip():
            return failure("the command is empty. Nothing was run.")
        await self._take_up_session(context)
        started_in = posixpath.relpath(context.state.get(_CWD, context.sandbox.workdir), context.sandbox.workdir)
        result = await context.sandbox.run(
            command,
            timeout=timeout,
            max_output=max(context.max_observation - _ROOM_FOR_NOTES, _ROOM_FOR_NOTES),
            keep_session=True,
        )
        output = shown(result)
        notes += _notes(context, result, output)
        if result.exit_code == 0:
            forget_failures(context.state)
        elif (count := failures_in_a_row(context.state, f"bash {command}", output)) > 1:
            notes.append(
                f"this command has failed in the same way {count} times in a row; it will not work by being "
                "repeated. Find out why it fails, or try another way"
            )
        return Observation(
            _layout(output, notes, result), may_have_changed=True, data=_facts(command, started_in, result)
        )

    async def _take_up_session(self, context: ToolContext) -> None:
        """In a sandbox that is new to us (resume, fork), go where the run was before."""
        if self._sandbox is context.sandbox:
            return
        self._sandbox = context.sandbox
        cwd = context.state.get(_CWD)
        if cwd and cwd != context.sandbox.workdir:
            await context.sandbox.run(f"cd -- {shlex.quote(cwd)}", keep_session=True)


def _timeout(context: ToolContext, arguments: Mapping[str, Any]) -> tuple[float, list[str]]:
    value = arguments.get("timeout")
    if value is None:
        return context.command_timeout, []
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BadArgument(f"the argument `timeout` must be a number of seconds above 0, not {value!r}.")
    if value > context.max_command_timeout:
        most = context.max_command_timeout
        return most, [f"the timeout was lowered to {most:g} s, the longest there is"]
    return float(value), []


def shown(result: CommandResult) -> str:
    """The output as text: what a terminal would show, and a line where the middle is left out."""
    head, tail = decoded(result.head, result.tail)
    if not result.dropped_bytes:
        return plain(head + tail)
    kept = "the whole" if result.output_file_complete else "more of it"
    where = f"{kept} is in {result.output_file}" if result.output_file else None
    line = omission(result.dropped_bytes, "bytes", where)
    return joined(plain(head_of_lines(head)), line, plain(tail_of_lines(tail)))


def _layout(output: str, notes: list[str], result: CommandResult) -> str:
    body = "Output:\n" + output.removesuffix("\n") if output.strip() else "(no output)"
    end = f"[exit status {result.exit_code}, {result.seconds:.2f} s]"
    return "\n".join([body, *(f"[{note}]" for note in notes), end])


def _notes(context: ToolContext, result: CommandResult, output: str) -> list[str]:
    notes = []
    if ended := _early_end(context, result):
        notes.append(ended)
    if result.exit_code and _WANTED_INPUT.search(output[-4000:]):
        notes.append("the program wanted input, and there is none: give it with a pipe or as arguments")
    if result.still_running:
        notes.append(_background(result))
    if moved := _moved(context, result):
        notes.append(moved)
    return notes


def _early_end(context: ToolContext, result: CommandResult) -> str | None:
    """What ended the command, when it did not end by itself."""
    if result.end is CommandEnd.TIMEOUT:
        return (
            f"timed out after {result.seconds:.0f} s and was ended, with all that it had started. For more time "
            f"give `timeout` (at most {context.max_command_timeout:g}), or start it in the background with its "
            "output in a file"
        )
    if result.end is CommandEnd.IDLE:
        return "printed nothing for too long and was ended; it may have been waiting for input"
    if result.end is CommandEnd.MEMORY:
        return "the sandbox's memory limit was reached, and a process of this command was killed for it"
    number = result.exit_code - 128
    if number == signal.SIGKILL:
        return "killed by signal 9 (SIGKILL): perhaps it needed more memory than the sandbox has"
    crash = next((name for name in _CRASHES if getattr(signal, name) == number), None)
    return f"ended by signal {number} ({crash})" if crash else None


def _background(result: CommandResult) -> str:
    """The processes that a command left behind by number and name, and how to end them."""
    pids = result.still_running[:_MOST_NAMED]
    named = [
        f"{pid} ({line})" if line else str(pid)
        for pid, line in itertools.zip_longest(pids, map(_one_line, result.command_lines[:_MOST_NAMED]))
    ]
    more = len(result.still_running) - len(pids)
    if more:
        named.append(f"{more} more")
    return f"still running in the background: {', '.join(named)}; end with `kill {' '.join(map(str, pids))}`"


def _one_line(command_line: str) -> str:
    """A process chooses its own command line: no line breaks, nothing that a terminal acts on, and not long."""
    text = " ".join("".join(each if each.isprintable() else " " for each in command_line).split())
    return text if len(text) <= _MOST_OF_A_NAME else text[: _MOST_OF_A_NAME - 1] + "…"


def _moved(context: ToolContext, result: CommandResult) -> str | None:
    """A line on the working directory of the next command, when it is another one than before."""
    if result.cwd is None:
        return None
    before = context.state.get(_CWD, context.sandbox.workdir)
    context.state[_CWD] = result.cwd
    return None if result.cwd == before else f"the working directory is now {result.cwd}"


def _facts(command: str, started_in: str, result: CommandResult) -> dict[str, Any]:
    return {
        "command": command,
        "cwd": started_in,  # relative to the work folder
        "exit_code": result.exit_code,
        "end": str(result.end),
        "seconds": result.seconds,
        "output_bytes": result.total_bytes,
        "output_file": result.output_file,
    }
