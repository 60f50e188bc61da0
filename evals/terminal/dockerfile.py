"""A plain Dockerfile as steps of our own, for bubblewrap, which has no engine to build one.

Plain means: one stage from our base image, and RUN, COPY, WORKDIR and ENV with nothing but paths and values. What says
more than that is left to an engine: half an image would give another verdict.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sandbox.images.base_image import BASE_REPOSITORY
from sandbox.images.detect.base import Step

_LINE: Final = re.compile(r"\\[ \t]*\n")
_COMMENT: Final = re.compile(r"^\s*#.*\n?", re.MULTILINE)
_IGNORED: Final = frozenset({"CMD", "ENTRYPOINT", "EXPOSE", "LABEL", "MAINTAINER", "STOPSIGNAL", "USER", "HEALTHCHECK"})
"""Said of a container that is started; a sandbox starts no command, is nobody's root, and opens no port."""


class NotPlain(Exception):
    """It takes an engine; the message names the instruction."""


@dataclass(frozen=True, slots=True)
class Plain:
    """The steps in order, each run as root of the build in a folder that holds the context; and what is left over."""

    steps: tuple[Step, ...]
    workdir: str
    env: tuple[tuple[str, str], ...]


def read_plain(text: str, context: str) -> Plain:
    """`context`: where the context's files lie while it is built. NotPlain."""
    steps: list[Step] = []
    env: dict[str, str] = {}
    workdir, seen = "/", False
    for word, rest in _instructions(text):
        if word == "FROM":
            _check_base(rest, seen)
            seen = True
        elif not seen:
            raise NotPlain(f"{word} before FROM")
        elif word == "WORKDIR":
            workdir = _path(rest, workdir)
            steps.append(Step(f"WORKDIR {workdir}", f"mkdir -p {shlex.quote(workdir)}"))
        elif word == "ENV":
            env |= _variables(rest)
        elif word == "RUN":
            steps.append(Step(f"RUN {rest[:60]}", f"{_exports(env)}cd {shlex.quote(workdir)}\n{_command(rest)}"))
        elif word in ("COPY", "ADD"):
            steps.append(Step(f"COPY {rest[:60]}", _copy(rest, workdir, context)))
        elif word not in _IGNORED:
            raise NotPlain(word)
    if not seen:
        raise NotPlain("a Dockerfile without FROM")
    return Plain(tuple(steps), workdir, tuple(env.items()))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    if "<<" in text:
        raise NotPlain("a here-document")
    for line in _LINE.sub(" ", _COMMENT.sub("", text)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            yield word.upper(), rest.strip()


def _check_base(rest: str, seen: bool) -> None:
    name = rest.split()[0] if rest.split() else ""
    if seen or len(rest.split()) != 1:
        raise NotPlain("several stages")
    if name.partition(":")[0] != BASE_REPOSITORY:
        raise NotPlain(f"FROM {name}")


def _path(said: str, workdir: str) -> str:
    words = _words(said)
    if len(words) != 1:
        raise NotPlain(f"WORKDIR {said}")
    return words[0] if words[0].startswith("/") else f"{workdir.rstrip('/')}/{words[0]}"


def _variables(said: str) -> dict[str, str]:
    words = _words(said)
    if words and "=" not in words[0]:
        return {words[0]: said.partition(" ")[2].strip()}
    return dict(word.partition("=")[::2] for word in words)


def _words(said: str) -> list[str]:
    if "$" in said:
        raise NotPlain(f"a variable in {said[:60]!r}")
    try:
        return shlex.split(said)
    except ValueError:
        raise NotPlain(said[:60]) from None


def _exports(env: dict[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())


def _command(rest: str) -> str:
    if rest.startswith("--"):
        raise NotPlain(f"RUN {rest.split()[0]}")
    if rest.startswith("["):
        try:
            return shlex.join(str(word) for word in json.loads(rest))
        except ValueError:
            raise NotPlain(f"RUN {rest[:60]}") from None
    return rest


def _copy(rest: str, workdir: str, context: str) -> str:
    """As COPY does it: a folder's contents, or files, to a folder or a name."""
    if rest.startswith(("--", "[")) or any(sign in rest for sign in "*?"):
        raise NotPlain(f"COPY {rest[:60]}")
    *sources, target = _words(rest)
    if not sources or any(".." in source.split("/") or "://" in source for source in sources):
        raise NotPlain(f"COPY {rest[:60]}")
    where = target if target.startswith("/") else f"{workdir.rstrip('/')}/{target.removeprefix('./')}"
    folder = target.endswith(("/", "/.")) or target == "." or len(sources) > 1
    to, lines = shlex.quote(where), []
    for source in sources:
        name = shlex.quote(f"{context}/{source.lstrip('/')}")
        # our own part of the build's folder is no part of the context
        whole = f"mkdir -p {to} && cp -a {name}/. {to}/ && rm -rf {to}/.patchwright-build"
        single = (
            f"mkdir -p {to} && cp -a {name} {to}/" if folder else f'mkdir -p "$(dirname {to})" && cp -a {name} {to}'
        )
        lines.append(f"if [ -d {name} ]; then {whole}; else {single}; fi")
    return "\n".join(lines)
