"""Make the demo's repository a git repository, somewhere outside this one: `python examples/demo/prepare.py FOLDER`.

A repository can't hold another one's `.git`, so `repo/` is kept as plain files. Author and dates are fixed, so the
commits have the same hashes everywhere. Needs only Python and git.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "repo"
PACKAGE = ("README.md", "pyproject.toml", ".gitignore", "paging/__init__.py", "paging/pages.py")
TESTS = ("tests/__init__.py", "tests/test_pages.py")
COMMITS = (
    ("Cut a sequence into pages", "2026-03-02T09:00:00+0000", PACKAGE),
    ("Show what is expected of the last page", "2026-03-03T09:00:00+0000", TESTS),
)


def prepare(folder: Path) -> str:
    """Copy the repository into `folder` (new or empty) and commit it. Returns the last commit's hash.

    Raises FileExistsError when something is there, CalledProcessError when git fails.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} isn't empty. Name a folder that doesn't exist yet.")
    folder.mkdir(parents=True, exist_ok=True)
    _git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    for subject, date, paths in COMMITS:
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE / path, folder / path)
        _git(folder, "add", "--", *paths)
        _git(folder, "commit", "--quiet", "--no-verify", "-m", subject, date=date)
    return _git(folder, "rev-parse", "HEAD").strip()


def _git(folder: Path, *arguments: str, date: str = "") -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "Demo", f"GIT_{role}_EMAIL": "demo@localhost", f"GIT_{role}_DATE": date}
    settings = ("core.autocrlf=false", "core.fileMode=false", f"core.excludesFile={os.devnull}")
    command = ["git", *(part for setting in settings for part in ("-c", setting)), *arguments]
    done = subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy the demo's repository and put it under git.")
    parser.add_argument("folder", type=Path, help="where to put it; a new or empty folder")
    folder = parser.parse_args().folder
    try:
        print(prepare(folder), folder)
    except (FileExistsError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
