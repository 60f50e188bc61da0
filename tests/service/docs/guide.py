"""A page of the docs as something to be done: its commands by name, its tables, and a shell that runs them here.

What is written for a reader's machine is replaced as `Here` says, and by nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
_COMMANDS = re.compile(r"<!-- run: ([\w-]+) -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NEEDED = ("bash", "sh", "cat", "curl", "env", "install", "openssl", "mkdir", "git")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def commands(text: str) -> dict[str, str]:
    return dict(_COMMANDS.findall(text))


def table(text: str, first: str) -> dict[str, list[str]]:
    """Rows of the table whose first column has this name: its cells by the first."""
    head = text.index(f"| {first} |")
    lines = text[head:].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("| "): [cell.strip("| ") for cell in row[1:]] for row in rows}


@dataclass(frozen=True)
class Here:
    """This machine instead of the reader's."""

    folder: Path
    port: int  # of the service
    model: str
    github: str  # of the fake forge

    def of(self, text: str) -> str:
        """A command as it is run here."""
        places = {
            "https://bot.example.org": f"http://127.0.0.1:{self.port}",  # no proxy: the service itself
            "http://gpu-server:30000": self.model,
            "/etc/patchwright": f"{self.folder}/etc",
            "/var/lib/patchwright": f"{self.folder}/home",
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return re.sub(r"(agent service app )", rf"\1--github {self.github} --port 0 ", text)

    def environment(self) -> dict[str, str]:
        """A login shell's, with this checkout's `agent` on its path, and what has to differ for a test."""
        programs = self.folder / "bin"
        if not programs.exists():
            programs.mkdir(parents=True)
            (programs / "agent").write_text(
                f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m cli.main "$@"\n'
            )
            (programs / "agent").chmod(0o755)
            for name in _NEEDED:
                (programs / name).symlink_to(str(shutil.which(name)))
        return {
            "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(self.folder), "LANG": "C.UTF-8",
            "PATCHWRIGHT_PORT": str(self.port), "PATCHWRIGHT_SANDBOX": "none", "PATCHWRIGHT_MAX_STEPS": "20",
            "NO_PROXY": "127.0.0.1",
        }  # fmt: skip

    def shell(self, text: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", self.of(text)]

    def run(self, text: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.shell(text), env=self.environment(), cwd=self.folder, input=stdin, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
