"""What the predicting side may know of an instance, and what it must never see.

Gold fields are the patch, the tests' patch, the lists of tests and the script that runs them. `gold_free` leaves them
behind; `gold_lines` are the lines of them that would give themselves away, and `find_gold` looks for these in what a
run wrote or handed to a process. Left out: what a checkout holds (`evals.leaks.checkout`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from evals.instance import Instance

KNOWN: Final = ("problem_statement", "repo", "base_commit", "image")
_SHORTEST: Final = 16  # characters of a line that says something
_PLAIN: Final = re.compile(r"(?:from\s+\S+\s+)?import\s.*|@\w+|[\W_]*|(?:return|raise|pass|else|try)\W*\w*\W*")
_CHUNK: Final = 4 << 20


def gold_free(instance: Instance) -> dict[str, str]:
    """All that an agent's process may be told: the issue's text, the repository, the base commit and the image."""
    return {name: getattr(instance, name) for name in KNOWN}


def gold_fields(instance: Instance) -> Mapping[str, str]:
    """Gold texts by the field that they come from."""
    fields: dict[str, str] = {
        "patch": _added(instance.patch),
        "test_patch": _added(instance.test_patch),
        "eval_script": instance.eval_script,
        "tests": "\n".join((*instance.fail_to_pass, *instance.pass_to_pass)),
    }
    for name, value in instance.rest.items():
        if isinstance(value, str) and re.search(r"patch|script|hint|parser|solution|test", name, re.IGNORECASE):
            fields[name] = value
    return fields


def _added(patch: str) -> str:
    """The lines that a patch adds."""
    return "\n".join(line[1:] for line in patch.splitlines() if line.startswith("+") and not line.startswith("+++ "))


def gold_lines(instance: Instance, *, shortest: int = _SHORTEST) -> tuple[str, ...]:
    """Lines of the gold fields that nobody writes by chance, stripped, without those that the issue shows."""
    return distinctive("\n".join(gold_fields(instance).values()), instance.problem_statement, shortest=shortest)


def distinctive(text: str, known: str, *, shortest: int = _SHORTEST) -> tuple[str, ...]:
    """The lines of `text`, stripped and each once, that are long enough, no boilerplate, and don't stand in `known`."""
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    return tuple(line for line in lines if len(line) >= shortest and not _PLAIN.fullmatch(line) and line not in known)


def find_gold(lines: Iterable[str], places: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """(name of the place, line) for each gold line that stands in a place, also with its quotes escaped as in JSON."""
    forms = [(line, {line.encode(), _in_json(line).encode()}) for line in lines]
    for name, content in places:
        yield from ((name, line) for line, spelled in forms if any(form in content for form in spelled))


def _in_json(line: str) -> str:
    return line.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each regular file below a folder with its content, links not followed; for tests, whose files are small."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path.read_bytes()[: 16 * _CHUNK]


def in_audit(event: str, arguments: tuple[Any, ...]) -> tuple[str, bytes] | None:
    """Of a `sys.addaudithook` call: argv and environment of a process that is being started, as one place to look in."""
    if event != "subprocess.Popen":
        return None
    executable, argv, _, env = arguments
    words = [argv] if isinstance(argv, str | bytes) else list(argv)
    variables = [f"{name}={value}" for name, value in env.items()] if env else []
    return f"process {executable}", "\n".join(map(str, [*words, *variables])).encode("utf-8", "surrogateescape")
