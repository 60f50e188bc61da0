"""What installers and package managers are asked for, where that is the project itself.

Left out: everything that isn't one (`looks`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from evals.leaks.looks import Known, Look, Shows, normal
from evals.leaks.shell import Command

_INSTALLERS: Final = {
    ("pip", "conda", "mamba", "micromamba", "poetry", "pdm"): {
        "install", "download", "wheel", "index", "add", "search",
    },
    ("npm", "yarn", "pnpm", "bun"): {"install", "i", "add", "pack", "view", "info", "show", "ci"},
    ("go",): {"get", "install", "mod"},
    ("cargo",): {"add", "install", "download", "info"},
    ("gem",): {"install", "fetch", "unpack", "specification"},
    ("apt", "apt-get"): {"source", "download", "install"},
    ("composer",): {"require", "create-project", "show"},
}  # fmt: skip


def installer_looks(command: Command, known: Known) -> Iterator[Look]:
    """What is asked of package indexes, and of what installers keep."""
    words = list(command.words)
    if re.fullmatch(r"python[\d.]*", command.name) and words[1:2] == ["-m"]:
        words = words[2:]
    tool = words[0].rpartition("/")[2] if words else ""
    if tool == "uv" and words[1:2] == ["pip"]:
        words, tool = words[1:], "pip"
    if tool in ("uv", "uvx", "pipx", "npx", "easy_install"):
        if any(known.is_project(re.split(r"(?<=.)@", word)[0]) for word in _wanted(tool, words[1:])):
            yield Look("asked a package index for the project", Shows.TRANSFER)
        return
    name = re.sub(r"[\d.]+$", "", tool)
    rest = words[1:]
    verb = next((word for word in rest if not word.startswith("-")), "")
    if name == "pip":
        yield from _pip(verb, rest, known)
    for installer, verbs in _INSTALLERS.items():
        asked = rest[rest.index(verb) + 1 :] if name in installer and verb in verbs else ()
        if any(known.is_project(word) for word in asked if not word.startswith("-")):
            yield Look("asked a package index for the project", Shows.TRANSFER)


def _wanted(tool: str, rest: list[str]) -> list[str]:
    """What a tool that fetches whatever it runs is told to fetch."""
    wanted = [rest[at + 1] for at, word in enumerate(rest[:-1]) if word in ("--with", "--from", "--package", "-p")]
    plain = [word for word in rest if not word.startswith("-")]
    verbs = {"uv": ("add", "tool"), "pipx": ("run", "install", "inject", "upgrade")}.get(tool)
    if verbs is None:
        return wanted + plain[:1]
    if plain[:1] == ["add"]:
        return wanted + plain[1:]
    return wanted + (plain[1:3] if plain and plain[0] in verbs else []) if tool == "uv" else wanted + plain[1:2]


def _pip(verb: str, rest: list[str], known: Known) -> Iterator[Look]:
    """What pip tells of copies that are there already."""
    if verb == "show" and {"-f", "--files"} & set(rest) and any(map(known.is_project, rest)):
        yield Look("listed the files of an installed copy of the project", Shows.COPY)
    elif verb == "cache" and "list" in rest:
        yield Look("listed the packages that an installer keeps", Shows.NAME, normal(known.instance.repo))
