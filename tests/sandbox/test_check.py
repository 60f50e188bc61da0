"""`agent sandbox check`: every line of the policy is measured, holds in each kind, and is seen when it doesn't."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sandbox import check
from sandbox.base import CommandEnd
from sandbox.check import Held, Seen
from sandbox.check_judges import JUDGES
from sandbox.check_outside import Outside
from sandbox.policy import HARDENING, HOME, STATE_DIR, Limits, Network, SandboxSpec
from tests.sandbox.kinds import ISOLATED, SPEC, need, opener

pytestmark = pytest.mark.heavy

FOLDERS = ("/workspace", "/tmp", HOME, "/dev/shm", STATE_DIR)


def fine() -> Seen:
    """What is seen of a sandbox in which all holds."""
    spec = SandboxSpec()
    limits = spec.limits
    process = {"Name": "python3", "NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0", "CapBnd": "0"}
    inside: dict[str, Any] = {
        "uid": 1000, "groups": [1000], "processes": [process], "interfaces": ["lo"], "unix": [],
        "connected": {"127.0.0.1:9": "ECONNREFUSED"}, "created": {"/etc": "EROFS"}, "root_read_only": True,
        "mounts": [{"at": "/", "kind": "ext4", "options": ["ro"], "root": "/"}],
        "folders": {path: {"bytes": 1 << 20, "files": 10, "create": "done", "options": 0} for path in FOLDERS},
        "devices": ["/dev/null"], "kernel": {"/proc/sysrq-trigger": "EROFS"}, "open_files": 4096, "core": 0,
        "calls": {"mount": "EPERM"}, "sockets": {"vsock": "EAFNOSUPPORT"}, "socket_files": [],
        "environment": {"names": ["PATH"], "secret": False}, "host_path": False,
    }  # fmt: skip
    outside = Outside(7, 1000, 0, 1000, limits.total_memory, limits.total_memory, limits.processes, 2.0, "1:x:/me-1")
    return Seen("bubblewrap", spec, inside, outside, {"children": 500, "why": "EAGAIN"}, (CommandEnd.TIMEOUT, 2.5, 0),
                (4096, 1 << 25), "me-1", None)  # fmt: skip


def inside(**changes: Any) -> Callable[[Seen], Seen]:
    return lambda seen: replace(seen, inside={**seen.inside, **changes})


def process(**changes: str) -> Callable[[Seen], Seen]:
    return lambda seen: inside(processes=[{**seen.inside["processes"][0], **changes}])(seen)


def folder(**changes: Any) -> Callable[[Seen], Seen]:
    return lambda seen: inside(
        folders={path: {**facts, **changes} for path, facts in seen.inside["folders"].items()}
    )(seen)  # fmt: skip


def outside(**changes: Any) -> Callable[[Seen], Seen]:
    def changed(seen: Seen) -> Seen:
        assert seen.outside is not None
        return replace(seen, outside=replace(seen.outside, **changes))

    return changed


def mount(**changes: Any) -> Callable[[Seen], Seen]:
    entry = {"at": "/host", "kind": "ext4", "options": ["rw"], "root": "/", "create": "done", **changes}
    return lambda seen: inside(mounts=[*seen.inside["mounts"], entry])(seen)


BROKEN: list[tuple[str, Callable[[Seen], Seen]]] = [
    ("network", inside(interfaces=["lo", "eth0"])),
    ("network", inside(connected={"169.254.169.254:80": "done"})),
    ("network", inside(unix=["@/tmp/.X11-unix/X0"])),
    ("network", lambda seen: replace(seen, spec=replace(seen.spec, network=Network.FULL))),
    ("user", inside(uid=0)),
    ("user", outside(uid=0)),
    ("user", inside(groups=[1000, 0])),
    ("files' owner", outside(file_uid=0)),
    ("capabilities", process(CapBnd="00000000a80425fb")),
    ("capabilities", outside(cap_eff=1)),
    ("new privileges", process(NoNewPrivs="0")),
    ("system calls", process(Seccomp="0")),
    ("system calls", inside(calls={"mount": "EFAULT"})),
    ("system calls", inside(calls={"unshare": "done"})),
    ("system calls", inside(calls=None)),
    ("system calls", inside(sockets={"vsock": "done"})),
    ("root filesystem", inside(created={"/etc": "done"})),
    ("root filesystem", inside(root_read_only=False)),
    ("writable folders", mount(kind="tmpfs")),
    ("writable folders", folder(create="EACCES")),
    ("disk", folder(bytes=1 << 50)),
    ("disk", folder(bytes=0)),
    ("devices", inside(devices=["/dev/sda"])),
    ("kernel settings", inside(kernel={"/proc/sysrq-trigger": "done"})),
    ("processes", lambda seen: replace(seen, forked={"children": 600, "why": "done"})),
    ("memory", outside(memory=1 << 50)),
    ("memory", outside(swap=1 << 50)),
    ("open files", inside(open_files=1 << 20)),
    ("open files", inside(core=1)),
    ("wall time", lambda seen: replace(seen, deadline=(CommandEnd.EXITED, 1.0, 0))),
    ("wall time", lambda seen: replace(seen, deadline=(CommandEnd.TIMEOUT, 2.5, 1))),
    ("wall time", lambda seen: replace(seen, deadline=(CommandEnd.TIMEOUT, 60.0, 0))),
    ("output", lambda seen: replace(seen, output=(1 << 25, 1 << 25))),
    ("environment", inside(environment={"names": [], "secret": True})),
    ("host paths", inside(host_path=True)),
    ("host paths", mount()),
    ("engine socket", inside(socket_files=["/run/docker.sock"])),
    ("labels", outside(groups="1:x:/patchwright/somebody-else")),
    ("labels", lambda seen: replace(seen, labels={"patchwright.owner": "somebody-else"})),
]
WITHOUT_GROUP: list[tuple[str, Callable[[Seen], Seen]]] = [
    ("memory", outside(memory=None)),
    ("CPU", outside(memory=None, cpus=None)),
    ("inodes", lambda seen: outside(memory=None)(folder(files=1 << 40)(seen))),
]


def judged(name: str, seen: Seen) -> Held:
    line = next(line for line in HARDENING if line.name == name)
    held, text = JUDGES[name](seen)
    finding = check._finding(line, seen, held, text)
    assert finding.policy == line.promise and finding.seen
    return finding.held


def test_every_line_has_a_judge_and_every_judge_a_line() -> None:
    assert list(JUDGES) == [line.name for line in HARDENING]
    assert {name for name, _ in [*BROKEN, *WITHOUT_GROUP]} == set(JUDGES)


def test_what_is_fine_is_said_to_be_fine() -> None:
    seen = fine()
    assert {name: judged(name, seen) for name in JUDGES} == dict.fromkeys(JUDGES, Held.YES)


@pytest.mark.parametrize(("name", "change"), BROKEN)
def test_what_is_broken_is_seen(name: str, change: Callable[[Seen], Seen]) -> None:
    assert judged(name, change(fine())) is Held.NO


@pytest.mark.parametrize(("name", "change"), WITHOUT_GROUP)
def test_what_holds_less_without_a_control_group_is_said(name: str, change: Callable[[Seen], Seen]) -> None:
    assert judged(name, change(fine())) is Held.WEAKER


def test_what_cant_be_seen_is_not_said_to_hold() -> None:
    unseen = [name for name in JUDGES if judged(name, replace(fine(), outside=None)) is Held.UNSEEN]
    assert unseen == ["user", "files' owner", "memory", "CPU", "labels"]


@pytest.mark.parametrize("kind", ISOLATED)
async def test_every_line_holds(kind: str) -> None:
    opener(kind)
    findings = {finding.line: finding for finding in await check.check(kind, SPEC)}
    assert list(findings) == [line.name for line in HARDENING]
    less = {name for name, finding in findings.items() if finding.held is not Held.YES}
    groups = findings["memory"].held is Held.YES
    assert less <= (set() if groups else {"memory", "CPU", "inodes", "labels"}), [findings[name] for name in less]


async def test_limits_of_the_spec_are_what_is_measured() -> None:
    """A sandbox that was opened with wider limits than the policy's is not within it."""
    need("bubblewrap")
    wide = replace(SPEC, limits=replace(SPEC.limits, open_files=8192, tmp_bytes=SPEC.limits.tmp_bytes * 2))
    seen = await check._measured("bubblewrap", wide)
    narrow = replace(seen, spec=SPEC)
    assert [name for name in JUDGES if JUDGES[name](narrow)[0] is Held.NO][:1] == ["disk"]
    assert JUDGES["open files"](narrow)[0] is Held.NO
    assert JUDGES["open files"](seen)[0] is Held.YES


@pytest.mark.parametrize("network", [Network.FULL])
async def test_an_open_network_is_seen(network: Network) -> None:
    need("bubblewrap")
    findings = await check.check("bubblewrap", replace(SPEC, network=network))
    assert [finding.held for finding in findings if finding.line == "network"] == [Held.NO]


def run(*arguments: str) -> tuple[int, str]:
    from cli.main import cli

    done = CliRunner().invoke(cli, ["sandbox", "check", *arguments])
    return done.exit_code, done.stdout


@pytest.mark.slow
def test_the_command_prints_a_table_and_json() -> None:
    need("bubblewrap")
    code, table = run("--kind", "bubblewrap")
    _, text = run("--kind", "bubblewrap", "--json")
    (checked,) = json.loads(text)
    held = {finding["line"]: finding["held"] for finding in checked["findings"]}
    assert checked["usable"] and list(held) == [line.name for line in HARDENING]
    for line in HARDENING:
        assert re.search(rf"^  (yes|weaker|no|not seen) +{re.escape(line.name)} ", table, re.MULTILINE), line.name
    assert (code == 0) is checked["held"] is (set(held.values()) == {"yes"})


def test_a_kind_that_isnt_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    code, text = run("--kind", "docker", "--json")
    (checked,) = json.loads(text)
    assert code == 1 and not checked["usable"] and not checked["findings"] and checked["todo"]


def test_the_page_about_sandboxes_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs/sandboxes.md").read_text()
    for line in HARDENING:
        assert f"| {line.name} | {line.promise} |" in page
    limits = Limits()
    assert f"| processes and threads | {limits.processes} |" in page


def test_the_probe_runs_on_old_pythons() -> None:
    """It is sent into images of any age: no syntax and no module of later years."""
    import ast

    source = Path(check.__file__).with_name("check_probe.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= set(sys.stdlib_module_names)
    assert isinstance(fine().inside, Mapping)
