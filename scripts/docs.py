"""Writes the parts of the docs that come from the program, or checks (`--check`) that they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import serving_docs

from agent.ends import EXIT_CODES, EXPLANATIONS
from cli.main import cli
from sandbox.policy import HARDENING

DOCS = Path(__file__).parent.parent / "docs"


def exit_codes() -> str:
    rows = "\n".join(f"| {EXIT_CODES[o]} | {o} | {text} |" for o, text in EXPLANATIONS.items())
    return (
        "# Exit codes of `agent fix` and `agent resume`\n\n"
        "Generated from `agent/ends.py` by `make docs`.\n\n"
        f"| code | outcome | what it means |\n| --- | --- | --- |\n{rows}\n"
        "| 1 | - | a bug of ours: a traceback is shown; please report it |\n"
        "| 2 | - | the command line could not be read |\n\n"
        "After 5, 7, 8, 9 and 130 the run can go on: `agent resume RUN` (after 5 with higher limits).\n"
    )


def command_line() -> str:
    parts = ["# Command line\n\nGenerated from the program by `make docs`.\n"]

    def add(command: click.Command, name: str) -> None:
        context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
        parts.append(f"## `{name}`\n\n```text\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                found = command.get_command(context, sub)
                assert found is not None
                add(found, f"{name} {sub}")

    add(cli, "agent")
    return "\n".join(parts)


def sandboxes() -> str:
    """The page with its table written anew; the rest of it is written by hand."""
    page = (DOCS / "sandboxes.md").read_text()
    before, _, rest = page.partition("<!-- hardening -->\n")
    _, _, after = rest.partition("<!-- /hardening -->\n")
    rows = "".join(f"| {line.name} | {line.promise} | {line.without_group or 'the same'} |\n" for line in HARDENING)
    head = "| line | what holds | where no control group can be made |\n| --- | --- | --- |\n"
    return f"{before}<!-- hardening -->\n{head}{rows}<!-- /hardening -->\n{after}"


PAGES = {"exit-codes.md": exit_codes, "cli.md": command_line, "sandboxes.md": sandboxes}


def main() -> int:
    stale = []
    for path, text in ({DOCS / name: make() for name, make in PAGES.items()} | serving_docs.files()).items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(DOCS)))
        if "--check" not in sys.argv:
            path.write_text(text)
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
