"""The `str_replace_editor` tool: view, create, str_replace, insert, undo_edit.

Works on bytes, so that encoding, line breaks, file mode and everything outside an edit stay as they are, and says
why an edit could not be done. The logic of an edit is in `tools.text_edit`. Left out: removing and renaming files,
which `bash` does.
"""

from __future__ import annotations

import difflib
import json
import posixpath
from collections.abc import Mapping
from typing import Any, Final

from sandbox.base import FileProblem, Sandbox
from tools import edit_history
from tools.arguments import BadArgument, as_integer, failure, optional_integer, optional_text, text
from tools.base import Observation, ToolContext
from tools.bounded import cut_middle
from tools.repeats import failures_in_a_row, forget_failures
from tools.syntax import new_problems
from tools.text_edit import (
    Decoded,
    Edit,
    EditRefused,
    NotText,
    decode,
    insert_after,
    lines_of,
    replace_once,
)
from tools.viewing import snippet, view_of_folder, view_of_lines

COMMANDS: Final = ("view", "create", "str_replace", "insert", "undo_edit")
MAX_BYTES: Final = 8 << 20  # of a file that is viewed or edited

SPEC: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "str_replace_editor",
        "description": (
            "View, create and edit text files.\n"
            "* `view` shows a file with line numbers (which are not part of it), or lists a folder two levels deep.\n"
            "* `create` writes a new file; it does not overwrite one that is there.\n"
            "* `str_replace` replaces `old_str`, which must stand in the file exactly once, by `new_str`. Give enough "
            "lines around the change to make it the only place, with their exact white space.\n"
            "* `insert` puts `new_str` as new lines after line `insert_line`.\n"
            "* `undo_edit` takes back the last edit of the file."
        ),
        "parameters": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "enum": list(COMMANDS), "description": "What to do."},
                "path": {
                    "type": "string",
                    "description": "File or folder: an absolute path, or one relative to the repository's root.",
                },
                "file_text": {"type": "string", "description": "For `create`: the whole text of the new file."},
                "old_str": {"type": "string", "description": "For `str_replace`: the text to replace."},
                "new_str": {
                    "type": "string",
                    "description": "For `str_replace`: the new text (nothing, to delete). For `insert`: the lines.",
                },
                "insert_line": {
                    "type": "integer",
                    "description": "For `insert`: the number of the line after which to insert; 0 for the top.",
                },
                "view_range": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "For `view` of a file: first and last line, such as [11, 40]; [11, -1] to its end.",
                },
            },
            "required": ["command", "path"],
        },
    },
}


class StrReplaceEditor:
    @property
    def spec(self) -> dict[str, Any]:
        return SPEC

    async def __call__(self, context: ToolContext, arguments: Mapping[str, Any]) -> Observation:
        try:
            observation = await _perform(context, arguments)
        except (BadArgument, EditRefused) as error:
            observation = failure(str(error))
        except FileProblem as error:
            observation = failure(await _file_problem(context, error))
        if not observation.failed:
            if observation.may_have_changed:
                forget_failures(context.state)
            return observation
        call = json.dumps(arguments, sort_keys=True, default=str)
        message = cut_middle(observation.text, context.max_observation - 300)
        if (count := failures_in_a_row(context.state, f"str_replace_editor {call}", message)) > 1:
            message += (
                f"\n[this very call has failed {count} times in a row. View the place again, and take `old_str` "
                "from what is there now]"
            )
        return Observation(message, failed=True, data=observation.data)


async def _perform(context: ToolContext, arguments: Mapping[str, Any]) -> Observation:
    command = text(arguments, "command")
    if command not in COMMANDS:
        raise BadArgument(f"there is no command {command!r}; the commands are {', '.join(COMMANDS)}.")
    given = text(arguments, "path")
    if not given.strip():
        raise BadArgument("the argument `path` is empty.")
    path = posixpath.normpath(posixpath.join(context.sandbox.workdir, given))
    performers = {"view": _view, "create": _create, "str_replace": _str_replace, "insert": _insert, "undo_edit": _undo}
    return await performers[command](context, path, arguments)


async def _view(context: ToolContext, path: str, arguments: Mapping[str, Any]) -> Observation:
    data = {"command": "view", "path": path}
    try:
        content = await _read(context.sandbox, path)
    except FileProblem as error:
        if error.errno_name != "EISDIR":
            raise
        return Observation(await view_of_folder(context.sandbox, path, context.max_observation), data=data)
    lines = lines_of(_text(path, content).text)
    first, last = _range(arguments.get("view_range"), len(lines))
    return Observation(view_of_lines(path, lines, first, last, context.max_observation), data=data)


def _range(value: Any, count: int) -> tuple[int, int]:
    if value is None or value == []:
        return 1, count
    numbers = [as_integer(number) for number in value] if isinstance(value, list) else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        raise BadArgument(f"`view_range` must be two line numbers such as [11, 40], not {value!r}.")
    first, last = numbers[0], numbers[1]
    last = count if last == -1 else min(last, count)
    if not 1 <= first <= max(count, 1):
        raise BadArgument(f"`view_range` must begin between 1 and {count}, the number of lines, not at {first}.")
    if last < first:
        raise BadArgument(f"`view_range` must end at {first} or later (-1 for the end), not at {numbers[1]}.")
    return first, last


async def _create(context: ToolContext, path: str, arguments: Mapping[str, Any]) -> Observation:
    new = text(arguments, "file_text", clean=False).encode()
    try:
        before: bytes | None = await _read(context.sandbox, path)
    except FileProblem as error:
        if error.errno_name == "EISDIR":
            raise EditRefused(f"{path} is a folder.") from None
        if error.errno_name != "ENOENT":
            raise
        before = None
    if before == new and before:
        raise EditRefused(f"{path} is there already and has exactly this text; there is nothing to do.")
    if before:
        raise EditRefused(
            f"{path} is there already, and `create` does not overwrite. Change it with `str_replace` or `insert`; to "
            "write it anew as a whole, remove it first with bash."
        )
    await _write(context, path, before, new)
    count = new.count(b"\n") + (not new.endswith(b"\n") and bool(new))
    notes = _syntax_notes(path, None, new)
    return _edited(f"The file {path} has been created ({count} lines).{notes}", "create", path, 1, max(1, count))


async def _str_replace(context: ToolContext, path: str, arguments: Mapping[str, Any]) -> Observation:
    old = text(arguments, "old_str", clean=False)
    new = optional_text(arguments, "new_str", clean=False) or ""
    content = await _read(context.sandbox, path)
    decoded = _text(path, content)
    edit = replace_once(decoded.text, old, new)
    if isinstance(edit, Edit):
        return await _apply(context, "str_replace", path, content, decoded, edit)
    if edit:
        places = ", ".join(str(line) for line in edit[:20]) + (", ..." if len(edit) > 20 else "")
        raise EditRefused(
            f"`old_str` stands in {path} more than once: at the lines {places}. Nothing was changed. Add lines before "
            "or after it until it is the only place."
        )
    from tools.near_match import explain  # loads rapidfuzz only when an edit has failed

    raise EditRefused(f"`old_str` is not in {path}. Nothing was changed.\n{explain(decoded.text, old, new)}")


async def _insert(context: ToolContext, path: str, arguments: Mapping[str, Any]) -> Observation:
    line = optional_integer(arguments, "insert_line", least=0)
    if line is None:
        raise BadArgument("the argument `insert_line` is missing: the line after which to insert, 0 for the top.")
    name = "insert_text" if "new_str" not in arguments and "insert_text" in arguments else "new_str"
    new = text(arguments, name, clean=False)
    content = await _read(context.sandbox, path)
    decoded = _text(path, content)
    return await _apply(context, "insert", path, content, decoded, insert_after(decoded.text, line, new))


async def _apply(
    context: ToolContext, command: str, path: str, before: bytes, decoded: Decoded, edit: Edit
) -> Observation:
    after = decoded.encode(edit.text)
    await _write(context, path, before, after)
    notes = _syntax_notes(path, before, after)
    shown = snippet(lines_of(edit.text), edit.first, edit.last, context.max_observation - len(path) - len(notes))
    message = f"The file {path} has been edited. The place with line numbers:\n{shown}{notes}"
    return _edited(message, command, path, edit.first, edit.last)


async def _undo(context: ToolContext, path: str, arguments: Mapping[str, Any]) -> Observation:
    edit = edit_history.last_edit(context, path)
    if edit is None:
        raise EditRefused(f"there is no edit of {path} to undo. Changes by commands can be undone with git.")
    if not edit.left(await _read(context.sandbox, path)):
        raise EditRefused(
            f"{path} has been changed by something else since its last edit, and undoing would lose that. View it, and "
            "change it with `str_replace`, or use git."
        )
    if edit.before is None:
        await _remove(context.sandbox, path)
        message = f"The creation of {path} was undone: the file is gone again."
    else:
        before = context.blobs.get(edit.before)
        await context.sandbox.write(path, before)
        count = before.count(b"\n") + (not before.endswith(b"\n") and bool(before))
        message = f"The last edit of {path} was undone: it has its {count} lines of before."
    edit_history.forget(context, edit)
    return Observation(message, may_have_changed=True, data={"command": "undo_edit", "path": path})


# -- files


async def _read(sandbox: Sandbox, path: str) -> bytes:
    content = await sandbox.read(path, limit=MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise EditRefused(
            f"{path} is larger than {MAX_BYTES >> 20} MiB. Look at parts of it with bash (`sed -n 1,100p`), and change "
            "it with a command."
        )
    return content


def _text(path: str, content: bytes) -> Decoded:
    try:
        return decode(content)
    except NotText as error:
        raise EditRefused(f"{path} is {error}, and this tool shows and edits text only; use bash for it.") from None


async def _write(context: ToolContext, path: str, before: bytes | None, after: bytes) -> None:
    edit_history.remember(context, path, before, after)
    try:
        await context.sandbox.write(path, after)
    except FileProblem:
        edit = edit_history.last_edit(context, path)
        assert edit is not None
        edit_history.forget(context, edit)
        raise


async def _remove(sandbox: Sandbox, path: str) -> None:
    result = await sandbox.run(["rm", "-f", "--", path])
    if result.exit_code:
        raise EditRefused(f"{path} could not be removed: {result.output.decode(errors='replace').strip()}")


def _syntax_notes(path: str, before: bytes | None, after: bytes) -> str:
    problems = new_problems(path, before, after)
    if not problems:
        return ""
    listed = "\n".join(f"  line {problem.line}: {problem.text}" for problem in problems)
    return f"\nWarning: with this edit the file has a new syntax error.\n{listed}\nCorrect it before you go on."


def _edited(message: str, command: str, path: str, first: int, last: int) -> Observation:
    data = {"command": command, "path": path, "first": first, "last": last}
    return Observation(message, may_have_changed=True, data=data)


async def _file_problem(context: ToolContext, error: FileProblem) -> str:
    """The problem in words, and for a file that isn't there the paths that may have been meant."""
    if error.errno_name not in ("ENOENT", "ENOTDIR"):
        return str(error)
    path = posixpath.normpath(posixpath.join(context.sandbox.workdir, error.path))
    meant = await _elsewhere(context, path) or await _neighbours(context.sandbox, path)
    hint = f" Is one of these meant? {', '.join(meant)}" if meant else " Look with `view` of a folder, or with search."
    return f"there is no file {path}.{hint}"


async def _elsewhere(context: ToolContext, path: str) -> list[str]:
    """The same path from another start: the shell's directory, or a root that this sandbox doesn't have."""
    workdir = context.sandbox.workdir
    starts = [posixpath.join(context.state.get("cwd", workdir), posixpath.relpath(path, workdir))]
    parts = path.strip("/").split("/")
    starts += [posixpath.join(workdir, *parts[index:]) for index in range(1, min(len(parts), 8))]
    for candidate in dict.fromkeys(posixpath.normpath(start) for start in starts):
        try:
            await context.sandbox.stat(candidate)
        except FileProblem:
            continue
        if candidate not in (workdir, path):
            return [candidate]
    return []


async def _neighbours(sandbox: Sandbox, path: str) -> list[str]:
    folder, name = posixpath.split(path)
    try:
        entries = await sandbox.list(folder)
    except FileProblem:
        return []
    names = [posixpath.basename(entry.path) for entry in entries]
    return [posixpath.join(folder, close) for close in difflib.get_close_matches(name, names, n=3)]
