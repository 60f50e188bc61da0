"""Colours code in a process of its own: a line of JSON in, `[name, text]`, and a line out, tokens by line or null.

A text that takes more than half a second of processor time ends the process, for nothing else stops a regular
expression. It runs by itself, with nothing of ours imported. Left out: whoever asks (`highlight`).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from importlib import import_module
from typing import Any

SECONDS = 0.5  # of processor time for one text
MEMORY = 1 << 30  # bytes
LEXERS = {
    "bash": "bash", "c": "c", "cc": "cpp", "cfg": "ini", "conf": "ini", "cpp": "cpp", "cs": "csharp", "css": "css",
    "cxx": "cpp", "diff": "diff", "go": "go", "h": "c", "hpp": "cpp", "htm": "html", "html": "html", "ini": "ini",
    "java": "java", "js": "javascript", "json": "json", "jsx": "javascript", "kt": "kotlin", "lua": "lua",
    "md": "markdown", "mjs": "javascript", "patch": "diff", "php": "php", "py": "python", "pyi": "python",
    "pyx": "cython", "rb": "ruby", "rs": "rust", "scala": "scala", "scss": "scss", "sh": "bash", "sql": "sql",
    "swift": "swift", "toml": "toml", "ts": "typescript", "tsx": "typescript", "xml": "xml", "yaml": "yaml",
    "yml": "yaml", "zsh": "bash",
}  # fmt: skip
CLASSES = (
    ("Token.Comment", "com"), ("Token.Literal.String", "str"), ("Token.Literal.Number", "num"),
    ("Token.Keyword", "kw"), ("Token.Operator.Word", "kw"), ("Token.Name.Function", "fn"), ("Token.Name.Class", "fn"),
    ("Token.Name.Builtin", "bi"), ("Token.Name.Exception", "bi"), ("Token.Name.Decorator", "de"),
    ("Token.Name.Attribute", "de"), ("Token.Name.Tag", "kw"), ("Token.Generic.Heading", "fn"),
    ("Token.Generic.Inserted", "ins"), ("Token.Generic.Deleted", "del"),
)  # fmt: skip


def class_of(kind: str) -> str:
    return next((short for prefix, short in CLASSES if kind.startswith(prefix)), "")


def tokens(name: str, text: str) -> list[list[list[str]]] | None:
    """By line, pieces of text with a class each; None for a language that isn't known."""
    lexer_name = LEXERS.get(name.rpartition("/")[2].rpartition(".")[2].lower())
    if lexer_name is None:
        return None
    lexer = import_module("pygments.lexers").get_lexer_by_name(lexer_name, stripnl=False, ensurenl=False)
    lines: list[list[list[str]]] = [[]]
    for kind, value in lexer.get_tokens(text):
        short = class_of(str(kind))
        for place, part in enumerate(value.split("\n")):
            if place:
                lines.append([])
            if part and lines[-1] and lines[-1][-1][0] == short:
                lines[-1][-1][1] += part
            elif part:
                lines[-1].append([short, part])
    return lines


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(5)
    print("ready", flush=True)
    for line in sys.stdin:
        name, text = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        answer: Any = tokens(name, text)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
