"""What a guest answered, checked field by field: whoever speaks there may not be our guest.

Left out: frames and JSON (`sandbox.channel`), and what the calls mean (`sandbox.machine`).
"""

from __future__ import annotations

from typing import Any

from sandbox.base import CommandEnd, CommandResult, FileInfo, FileKind, FileProblem
from sandbox.channel import Message, ProtocolBroken


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ProtocolBroken(message)


def number(value: Any, low: int, high: int) -> int:
    require(type(value) is int and low <= value <= high, f"a number that can't be: {value!r:.40}")
    return int(value)


def text(value: Any) -> str:
    require(isinstance(value, str) and len(value) <= 8192, "a text that can't be")
    return str(value)


def result(answer: Message, data: bytes, max_output: int) -> CommandResult:
    require(len(data) <= max_output + 1024, "more output than asked for")
    head = number(answer["head"], 0, len(data))
    file, cwd = answer.get("output_file"), answer.get("cwd")
    left, lines = answer["still_running"], answer.get("command_lines", [])
    require(isinstance(left, list) and len(left) <= 1000, "a list that can't be")
    require(isinstance(lines, list) and len(lines) <= len(left), "a list that can't be")
    seconds = answer["seconds"]
    require(isinstance(seconds, float | int) and 0 <= seconds < 1e9, "a duration that can't be")
    return CommandResult(
        exit_code=number(answer["exit_code"], 0, 255),
        head=data[:head],
        tail=data[head:],
        total_bytes=number(answer["total"], len(data), 1 << 62),
        seconds=float(seconds),
        end=CommandEnd(answer["end"]),
        output_file=None if file is None else text(file),
        output_file_complete=answer.get("complete") is True,
        still_running=tuple(number(pid, 1, 1 << 31) for pid in left),
        command_lines=tuple(text(line) for line in lines),
        cwd=None if cwd is None else text(cwd),
    )


def info(entry: Any) -> FileInfo:
    path, kind, size, mode, mtime = entry
    return FileInfo(
        path=text(path),
        kind=FileKind(kind),
        size=number(size, 0, 1 << 62),
        mode=number(mode, 0, 0o7777),
        mtime_ns=number(mtime, -(1 << 63), 1 << 63),
    )


def raise_child_problem(answer: Message, path: str) -> None:
    if answer.get("exit_code") == 0:
        return
    name, _, text = str(answer.get("error_text", ""))[:4000].partition(" ")
    if not text:
        name, text = "EIO", f"the work was ended ({answer.get('end')}, status {answer.get('exit_code')})"
    raise FileProblem(f"{path}: {text}", path=path, errno_name=name)
