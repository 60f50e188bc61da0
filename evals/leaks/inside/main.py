"""The audit as a program: settings in, findings out, both JSON. The work folder first, then the rest of the machine."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, Set, Tuple

from evals.leaks.inside.copies import Copies
from evals.leaks.inside.files import Files
from evals.leaks.inside.history import History, check_submodules, modules
from evals.leaks.inside.lines import Lines
from evals.leaks.inside.machine import check_network, check_variables
from evals.leaks.inside.project import Project
from evals.leaks.inside.report import Report
from evals.leaks.inside.repository import Repository, Trouble, blob_name, environment, forms_of, git_folder

_LIKE = 0.5  # of the paths that a checkout shares with the base commit's to be one of the same project
Tree = Dict[str, Tuple[str, bytes]]


def audit(settings: Dict[str, Any]) -> Dict[str, Any]:
    """`findings`, `more` (how many were left out of each kind) and `counts`. Trouble where nothing can be said."""
    report = Report(settings["seconds"], settings["findings"])
    workdir, base = settings["workdir"], settings["base"]
    folder = git_folder(os.path.join(workdir, ".git"))
    if folder is None:
        raise Trouble(f"{workdir} is no checkout: there is no .git in it")
    repository = Repository(folder, report)
    if not repository.holds(base):
        raise Trouble(f"{workdir} doesn't hold the commit {base}")
    allowed, tree = repository.reachable(base), repository.tree(base)
    own = check_work_tree(repository, workdir, base, tree, allowed, report)
    History(repository, allowed, report).check()
    check_submodules(repository, tree, workdir, report)
    project = Project(os.path.realpath(workdir), tree, settings["names"], settings["version"])
    lines = Lines(bytes.fromhex(settings["salt"]), settings["lines"])
    files = Files(project, Copies(project, allowed, report), lines, report, own, settings)
    files.learn(workdir)
    files.walk([workdir, *settings["roots"]])
    check_variables(lines, report, others=settings["network"])
    check_checkouts(files.checkouts, repository, base, allowed, tree, report)
    if settings["network"]:
        check_network(report)
    report.counts["seconds"] = round(settings["seconds"] - report.left, 2)
    return {"findings": report.findings, "more": report.more, "counts": report.counts}


def check_work_tree(
    repository: Repository, workdir: str, base: str, tree: Tree, allowed: Set[bytes], report: Report
) -> Set[str]:
    """Files that aren't as any version up to the base commit; returns the paths that are as in the base commit."""
    with tempfile.TemporaryDirectory() as scratch:
        env = dict(environment(), GIT_INDEX_FILE=os.path.join(scratch, "index"), GIT_WORK_TREE=workdir)
        repository.git("read-tree", base, env=env)
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "--git-dir", repository.folder,
             "diff-files", "--name-only", "-z", "--ignore-submodules"],
            cwd=workdir, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=max(report.left, 1.0),
        )  # fmt: skip
    if done.returncode:
        raise Trouble("git can't compare the work folder: " + done.stderr.decode("utf-8", "replace")[-300:])
    own = set(tree) - {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}
    for path in sorted(set(tree) - own):  # git names those whose times it doesn't know as well
        content = _content(os.path.join(workdir, path))
        names = {blob_name(form, base.encode()) for form in forms_of(content)} if content is not None else set()
        if tree[path][1] in names:
            own.add(path)
        elif not names & allowed:
            what = "it is missing" if content is None else "its content is no version up to the base commit's"
            report.add("work tree", path, what)
    return own


def _content(path: str) -> "bytes | None":
    try:
        if os.path.islink(path):
            return os.fsencode(os.readlink(path))
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def check_checkouts(
    folders: List[str], repository: Repository, base: str, allowed: Set[bytes], tree: Tree, report: Report
) -> None:
    """Other repositories that hold the same project: they may hold no more than the work folder's."""
    done = {os.path.realpath(repository.folder), *modules(repository.folder)}
    for folder in folders:
        real = os.path.realpath(folder)
        if real in done or "/.git/modules/" in real or "/.git/worktrees/" in real:
            continue
        done.add(real)
        other = Repository(real, report)
        try:
            if other.holds(base):
                History(other, allowed | other.reachable(base), report, "other checkout").check()
            elif _same_project(other, tree):
                History(other, allowed, report, "other checkout").check()
        except Trouble as trouble:
            report.add("not looked at", real, str(trouble))


def _same_project(other: Repository, tree: Tree) -> bool:
    """Whether any branch of it has mostly the same paths."""
    for name in ["HEAD", *sorted(other.refs())[:20]]:
        try:
            theirs = set(other.tree(name))
        except Trouble:
            continue
        smaller = min(len(theirs), len(tree))
        if smaller and len(theirs & set(tree)) >= max(smaller * _LIKE, min(3, smaller)):
            return True
    return False


def main(settings: Dict[str, Any]) -> None:
    """Prints one object, also where nothing can be said."""
    try:
        said = audit(settings)
    except Trouble as trouble:
        said = {"failed": str(trouble)}
    sys.stdout.write(json.dumps(said) + "\n")
