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
_GOLD_NAME: Final = re.compile(r"patch|script|hint|parser|solution|test", re.IGNORECASE)
_MOST_OF_A_FILE: Final = 64 << 20


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
    rest = instance.rest.items()
    return fields | {name: value for name, value in rest if isinstance(value, str) and _GOLD_NAME.search(name)}


def _added(patch: str, sign: str = "+") -> str:
    """The lines that a patch adds (or, with `-`, takes away)."""
    lines = patch.splitlines()
    return "\n".join(line[1:] for line in lines if line.startswith(sign) and not line.startswith(f"{sign * 3} "))


def gold_lines(instance: Instance, *, shortest: int = _SHORTEST) -> tuple[str, ...]:
    """Lines of the gold fields that nobody writes by chance, stripped, without those that the issue shows."""
    return distinctive("\n".join(gold_fields(instance).values()), instance.issue, shortest=shortest)


def marks(instance: Instance) -> tuple[str, ...]:
    """Lines by which the solution or its tests are known again in a file: what the patches add, and new tests' ids."""
    tests = _added(instance.test_patch)
    solution = _added(instance.patch, "-" if instance.patch_breaks else "+")
    new = [test for test in instance.fail_to_pass if re.split(r"[:.(\[ ]", _name(test))[0] in hidden_tests(instance)]
    return distinctive("\n".join([solution, tests, *new]), instance.issue)


def endings(instance: Instance) -> list[str]:
    """The endings of the files that the solution and its tests touch, in small letters with their dots."""
    paths = re.findall(r"^(?:\+\+\+ b|--- a)/([^\t\n]+)", f"{instance.patch}\n{instance.test_patch}", re.MULTILINE)
    return sorted({Path(path).suffix.lower() for path in paths} - {""})


def hidden_tests(instance: Instance) -> frozenset[str]:
    """Names of the test functions that only the tests' patch brings."""
    added = set(re.findall(r"\bdef (test\w*)", _added(instance.test_patch)))
    return frozenset(added - set(re.findall(r"\bdef (test\w*)", _added(instance.test_patch, "-"))))


def _name(test: str) -> str:
    """The function in a test's id: behind the last `::`, or what Django writes before its class."""
    return test.rpartition("::")[2]


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
            yield str(path.relative_to(folder)), path.read_bytes()[:_MOST_OF_A_FILE]


def in_audit(event: str, arguments: tuple[Any, ...]) -> tuple[str, bytes] | None:
    """Argv and environment of a process that is being started, from a `sys.addaudithook` call: a place to look in."""
    if event != "subprocess.Popen":
        return None
    executable, argv, _, env = arguments
    words = [argv] if isinstance(argv, str | bytes) else list(argv)
    variables = [f"{name}={value}" for name, value in env.items()] if env else []
    return f"process {executable}", "\n".join(map(str, [*words, *variables])).encode("utf-8", "surrogateescape")
