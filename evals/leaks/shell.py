"""A shell script of a stranger as the simple commands that it would run: enough to tell what it looks at.

Quotes, comments, here-documents, substitutions and the usual wrappers are followed; nothing is expanded or run. Left
out: control flow (each branch counts as run), variables and arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MOST: Final = 64 * 1024  # characters of a script that are looked at
_DEPTH: Final = 4
_RESERVED: Final = frozenset({"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!", "time", "in"})
_WRAPPERS: Final = frozenset({"sudo", "env", "nohup", "nice", "command", "exec", "timeout", "stdbuf", "xargs", "eval"})
_TAKES_VALUE: Final = frozenset({"-n", "-I", "-P", "-L", "-d", "-u", "-k", "-s", "-o"})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_INTERPRETER: Final = re.compile(r"(?:python|pypy|ipython|node|ruby|perl)[\d.]*")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*\+?=")
_TOKEN: Final = re.compile(
    r"(?P<space>(?:[ \t\r]|\\\n)+)"
    r"|(?P<comment>(?<![^\s;&|()])#[^\n]*)"
    r"|(?P<heredoc><<(?P<dash>-?)[ \t]*(?:'(?P<q1>[^'\n]+)'|\"(?P<q2>[^\"\n]+)\"|\\?(?P<plain>[\w.+-]+)))"
    r"|(?P<out>\d*&?>{1,2}\|?(?:&[\d-]+)?)"
    r"|(?P<into>\d*<{1,3})"
    r"|(?P<newline>\n)"
    r"|(?P<end>[;&|()]+|(?<![^\s;&|()])[{}](?=[\s;&|()]|$))"
    r"|(?P<single>'[^']*'?)"
    r"|(?P<escape>\\.)"
    r"|(?P<plainword>[^\s;&|()'\"\\$`<>]+)"
    r"|(?P<other>.)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command: its words without quotes, and program text that it is given (`-c`, `-e`, here-documents)."""

    words: tuple[str, ...]
    source: str = ""

    @property
    def name(self) -> str:
        return self.words[0].rpartition("/")[2]


def commands(script: str, depth: int = _DEPTH) -> Iterator[Command]:
    """The simple commands in the order in which they stand; those of substitutions and of `sh -c` too."""
    scan = _Scan(script[:MOST])
    for words, source in scan.done:
        yield from _unwrapped(words, source, depth)
    if depth:
        for inner in scan.nested:
            yield from commands(inner, depth - 1)


class _Scan:
    """One pass over a script, each character once. What is left open at the end counts as closed."""

    def __init__(self, text: str) -> None:
        self.done: list[tuple[list[str], str]] = []
        self.nested: list[str] = []
        self._text = text
        self._at = 0
        self._words: list[str] = []
        self._word: list[str] | None = None
        self._to_file = False  # the next word is where output goes
        self._waiting: list[_Document] = []
        self._documents: list[_Document] = []  # of the command that is being read
        while self._at < len(text):
            self._step()
        self._end_command()

    def _step(self) -> None:
        match = _TOKEN.match(self._text, self._at)
        assert match is not None  # the last alternative takes any character
        self._at = match.end()
        kind, token = match.lastgroup or "", match[0]
        if match["heredoc"]:
            self._end_word()
            name = match["q1"] or match["q2"] or match["plain"]
            document = _Document(name, tabs=bool(match["dash"]))
            self._waiting.append(document)
            self._documents.append(document)
        elif kind == "other":
            self._other(token)
        elif kind in ("single", "escape", "plainword"):
            self._put(token.strip("'") if kind == "single" else token[1:] if kind == "escape" else token)
        else:
            self._end_word()
            self._to_file = kind == "out" and "&" not in token[1:]
            if kind in ("newline", "end"):
                self._end_command()
            if kind == "newline":
                self._take_documents()

    def _other(self, char: str) -> None:
        if char == '"':
            self._double()
        elif char == "$" and self._text[self._at : self._at + 1] == "(":
            self._put("$()")
            self.nested.append(self._until_paren())
        elif char == "`":
            end = self._text.find("`", self._at)
            end = len(self._text) if end < 0 else end
            self.nested.append(self._text[self._at : end])
            self._at = end + 1
            self._put("$()")
        else:
            self._put(char)

    def _double(self) -> None:
        self._put("")
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char == '"':
                return
            if char == "\\":
                self._put(self._text[self._at : self._at + 1])
                self._at += 1
            elif char in "$`":
                self._other(char)
            else:
                end = re.compile(r'["\\$`]').search(self._text, self._at)
                stop = end.start() if end else len(self._text)
                self._put(char + self._text[self._at : stop])
                self._at = stop

    def _until_paren(self) -> str:
        start, depth = self._at + 1, 0
        for at in range(self._at, len(self._text)):
            depth += {"(": 1, ")": -1}.get(self._text[at], 0)
            if not depth:
                self._at = at + 1
                return self._text[start:at]
        self._at = len(self._text)
        return self._text[start:]

    def _put(self, text: str) -> None:
        if self._word is None:
            self._word = []
        self._word.append(text)

    def _end_word(self) -> None:
        if self._word is not None and not self._to_file:
            self._words.append("".join(self._word))
        if self._word is not None:
            self._word, self._to_file = None, False

    def _end_command(self) -> None:
        self._end_word()
        if self._words:
            self.done.append((self._words, ""))
        if self._documents and self.done:
            for document in self._documents:
                document.command = len(self.done) - 1
        self._words, self._documents, self._to_file = [], [], False

    def _take_documents(self) -> None:
        """The texts of here-documents, which begin behind the line that names them."""
        for document in self._waiting:
            lines: list[str] = []
            while self._at < len(self._text):
                end = self._text.find("\n", self._at)
                end = len(self._text) if end < 0 else end
                line = self._text[self._at : end]
                self._at = end + 1
                if (line.lstrip("\t") if document.tabs else line) == document.name:
                    break
                lines.append(line)
            if document.command is not None:
                words, source = self.done[document.command]
                self.done[document.command] = (words, source + "\n".join(lines))
        self._waiting = []


@dataclass(slots=True)
class _Document:
    """A here-document: the line that ends it, and the command that gets it."""

    name: str
    tabs: bool
    command: int | None = None


def _unwrapped(words: list[str], source: str, depth: int) -> Iterator[Command]:
    """The command behind assignments, reserved words and wrappers; of a shell, the commands of its script."""
    words = _without_wrappers(words)
    if not words:
        return
    command = Command(tuple(words), source)
    given = next((words[at + 1] for at, word in enumerate(words[:-1]) if re.fullmatch(r"-\w*c", word)), None)
    if command.name in _SHELLS and depth and (given or source):
        for script in (given, source):
            if script:
                yield from commands(script, depth - 1)
    elif _INTERPRETER.fullmatch(command.name):
        code = [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-c", "-e")]
        yield Command(command.words, "\n".join([*code, source]))
    else:
        yield command


def _without_wrappers(words: list[str]) -> list[str]:
    at = 0
    while at < len(words):
        word = words[at]
        if word in _RESERVED or _ASSIGNMENT.match(word):
            at += 1
        elif word.rpartition("/")[2] in _WRAPPERS:
            at += 1
            while at < len(words) and (words[at].startswith("-") or re.fullmatch(r"[\d.]+[smh]?", words[at])):
                at += 2 if words[at] in _TAKES_VALUE else 1
        else:
            break
    return words[at:]
