"""The last step of a set-up, run inside the image: packs what was made in the work folder, and empties it.

Standard library and Python 3.6 only, because it runs in any image. It reads `.patchwright-build/environment.json` in
the current folder, and leaves below /opt/patchwright: `kept` (folders that sandboxes get links to), `seed.tar` (what
they get copies of), `exclude` (paths that never belong to a patch) and `enter`, which puts all that into a new work
folder.
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import List, Set

PREFIX = "/opt/patchwright"
OWN = ".patchwright-build"
ENTER = """#!/bin/sh
# $1: a sandbox's work folder, $2: its state folder. Run when it is opened, before the checkout.
cd "$1" || exit
here=/opt/patchwright
mkdir -p .git/info "$2/git/info"
cat $here/exclude >> .git/info/exclude
cat $here/exclude >> "$2/git/info/exclude"
[ ! -f $here/seed.tar ] || tar --no-same-owner -xf $here/seed.tar || exit
while IFS= read -r path; do
    mkdir -p "$(dirname "$path")"
    ln -s "$here/kept/$path" "$path" || exit
done < $here/kept.list
"""


def keep(names: Set[str], root: str) -> List[str]:
    """Move every folder of these names out of the work folder; the paths that they had."""
    found: List[str] = []
    for folder, folders, _ in os.walk("."):
        for name in [name for name in folders if name in names]:
            path = os.path.normpath(os.path.join(folder, name))
            if not os.path.islink(path):
                found.append(path)
            folders.remove(name)
    for path in found:
        anchor_links(path, root)
    for path in found:
        target = os.path.join(PREFIX, "kept", path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.move(path, target)
    return found


def anchor_links(path: str, root: str) -> None:
    """Links that lead out of a folder are made absolute, so that they still lead there when it has moved."""
    whole = os.path.join(root, path)
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            link = os.path.join(folder, name)
            if os.path.islink(link) and not os.path.isabs(os.readlink(link)):
                leads = os.path.normpath(os.path.join(root, folder, os.readlink(link)))
                if not leads.startswith(whole + "/"):
                    os.unlink(link)
                    os.symlink(leads, link)


def ignored() -> List[str]:
    """Files that git ignores here, but for compiled Python; git runs with a repository of our own."""
    with tempfile.TemporaryDirectory() as folder:
        env = dict(
            os.environ, GIT_DIR=folder, GIT_WORK_TREE=".", GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null"
        )
        subprocess.run(["git", "init", "-q"], env=env, check=True)
        listed = ["git", "-c", "core.fsmonitor=false", "ls-files", "-z", "--others", "--ignored", "--exclude-standard"]
        done = subprocess.run(listed, env=env, check=True, stdout=subprocess.PIPE)
    names = (os.fsdecode(name) for name in done.stdout.split(b"\0") if name)
    return [name for name in names if not name.endswith(".pyc") and not name.startswith((OWN, ".git/", "build/temp"))]


def main() -> None:
    with open(os.path.join(OWN, "environment.json")) as file:
        spec = json.load(file)
    root = os.getcwd()
    os.makedirs(PREFIX, exist_ok=True)
    kept = keep(set(spec["keep"]), root)
    copies = [name for name in spec["copy"] if os.path.lexists(name)]
    seeds = ignored() if spec["seed"] else []
    if copies or seeds:
        with tarfile.open(os.path.join(PREFIX, "seed.tar"), "w") as tar:
            for name in copies + seeds:
                tar.add(name, recursive=name in copies)
    texts = {"exclude": ["/" + name for name in kept + copies], "kept.list": kept}
    for name, lines in texts.items():
        with open(os.path.join(PREFIX, name), "w") as file:
            file.writelines(line + "\n" for line in lines)
    with open(os.path.join(PREFIX, "environment.json"), "w") as file:
        json.dump(spec, file)
    if kept or copies or seeds:
        with open(os.path.join(PREFIX, "enter"), "w") as file:
            file.write(ENTER)
        os.chmod(os.path.join(PREFIX, "enter"), 0o755)
    open_for_all()
    clear(root if spec["clear"] else os.path.join(root, OWN))


def open_for_all() -> None:
    """Sandboxes run as another user than builds."""
    for folder, _, files in os.walk(PREFIX):
        os.chmod(folder, os.stat(folder).st_mode | 0o755)
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                mode = os.stat(path).st_mode
                os.chmod(path, mode | (0o555 if mode & 0o100 else 0o444))


def clear(root: str) -> None:
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


if __name__ == "__main__":
    main()
