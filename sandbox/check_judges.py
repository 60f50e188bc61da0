"""One judge for each line of the hardening: from what was measured to held or not, and in words.

Left out: the measuring (`sandbox.check`).
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.base import CommandEnd
from sandbox.cgroups import PARENT
from sandbox.check import MARGIN, Held, Seen
from sandbox.policy import HOME, MIB, STATE_DIR, Network

Verdict = tuple[Held, str]
_DEVICES = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts/ptmx",
    "/dev/console",
}  # fmt: skip
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_PSEUDO = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs", "tmpfs"}
_ENGINE = ("docker", "containerd", "podman", "crio", "buildkit")
# in containers: files of the engine's own making, one per container
_ENGINE_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/run/.containerenv", "/sbin/docker-init",
                 "/dev/init", "/run/podman-init", "/etc/passwd", "/etc/group")  # fmt: skip


def _verdict(bad: bool | list[str], good: str, why: str = "") -> Verdict:
    if isinstance(bad, list):
        why = why + ", ".join(bad[:8])
    return (Held.NO, why) if bad else (Held.YES, good)


def _network(seen: Seen) -> Verdict:
    if seen.spec.network is Network.FULL:
        return Held.NO, "opened by --network full"
    facts = seen.inside
    others = [name for name in facts["interfaces"] if name != "lo" and not name.startswith(("tunl", "sit", "gre"))]
    reached = [where for where, what in facts["connected"].items() if what == "done"]
    foreign = [name for name in facts["unix"] if name.startswith(("@", "/"))]
    bad = [*(f"interface {name}" for name in others), *(f"reached {where}" for where in reached)]
    bad += [f"socket {name}" for name in foreign]
    answers = ", ".join(sorted(set(facts["connected"].values())))
    return _verdict(bad, f"only lo; {len(facts['connected'])} addresses tried: {answers}")


def _user(seen: Seen) -> Verdict:
    inside = seen.inside["uid"]
    if seen.outside is None:
        return (Held.NO if inside == 0 else Held.UNSEEN), f"uid {inside} inside; can't be seen from the host"
    text = f"uid {inside} inside, {seen.outside.uid} on the host"
    return _verdict(inside == 0 or seen.outside.uid == 0 or 0 in seen.inside["groups"], text, text)


def _owner(seen: Seen) -> Verdict:
    if seen.outside is None or seen.outside.file_uid is None:
        return Held.UNSEEN, "its files can't be seen from the host"
    text = f"a new file belongs to uid {seen.outside.file_uid} on the host"
    return _verdict(seen.outside.file_uid == 0, text, text)


def _capabilities(seen: Seen) -> Verdict:
    bad = [
        f"{entry['Name']}: {name} {entry[name]}"
        for entry in seen.inside["processes"]
        for name in _CAPABILITIES
        if int(entry.get(name, "0"), 16)
    ]
    if seen.outside is not None and seen.outside.cap_eff:
        bad.append(f"on the host: CapEff {seen.outside.cap_eff:x}")
    return _verdict(bad, f"all five sets 0 in each of {len(seen.inside['processes'])} processes")


def _privileges(seen: Seen) -> Verdict:
    bad = [entry["Name"] for entry in seen.inside["processes"] if entry.get("NoNewPrivs") != "1"]
    return _verdict(bad, "NoNewPrivs 1 in every process", "not in ")


def _calls(seen: Seen) -> Verdict:
    facts = seen.inside
    if facts["calls"] is None:
        return Held.NO, "the process that tried them was stopped"
    refused = {"EPERM", "ENOSYS", "EACCES"}
    bad = [f"{name}: {answer}" for name, answer in facts["calls"].items() if answer not in refused]
    bad += [f"a {name} socket" for name, answer in facts["sockets"].items() if answer == "done"]
    bad += [f"no filter in {entry['Name']}" for entry in facts["processes"] if entry.get("Seccomp") != "2"]
    tried = len(facts["calls"]) + len(facts["sockets"])
    return _verdict(bad, f"Seccomp 2; {tried} calls and sockets tried, all refused")


def _root(seen: Seen) -> Verdict:
    bad = [f"{path} written" for path, answer in seen.inside["created"].items() if answer == "done"]
    if not seen.inside["root_read_only"]:
        bad.append("/ is mounted for writing")
    return _verdict(bad, "read-only; " + ", ".join(sorted(set(seen.inside["created"].values()))))


def _folders(seen: Seen) -> tuple[str, ...]:
    return tuple(seen.inside["folders"])


def _writable(seen: Seen) -> Verdict:
    own = _folders(seen)
    places = [
        entry for entry in seen.inside["mounts"] if entry["kind"] != "mqueue"
    ]  # queues, few by the kernel's limit
    bad = [entry["at"] for entry in places if entry.get("create") == "done" and entry["at"] not in own]
    bad += [
        f"{path} ({facts['create']})" for path, facts in seen.inside["folders"].items() if facts["create"] != "done"
    ]
    return _verdict(bad, f"{', '.join(own)}", "otherwise: ")


def _bounds(seen: Seen) -> dict[str, int]:
    limits = seen.spec.limits
    sizes = {"/tmp": limits.tmp_bytes, HOME: limits.home_bytes, "/dev/shm": limits.shm_bytes}  # noqa: S108
    return {path: sizes.get(path, limits.workdir_bytes) for path in _folders(seen)} | {STATE_DIR: limits.state_bytes}


def _disk(seen: Seen) -> Verdict:
    sizes = {path: facts["bytes"] for path, facts in seen.inside["folders"].items()}
    bounds = _bounds(seen)
    bad = [f"{path} {size // MIB} MiB" for path, size in sizes.items() if not 0 < size <= bounds[path]]
    return _verdict(bad, ", ".join(f"{path} {size // MIB} MiB" for path, size in sizes.items()))


def _inodes(seen: Seen) -> Verdict:
    counts = {path: facts["files"] for path, facts in seen.inside["folders"].items()}
    over = [f"{path} {count}" for path, count in counts.items() if not 0 < count <= seen.spec.limits.files]
    if over and seen.has_group:
        return Held.YES, f"at most {max(counts.values())}, and each counts as memory"
    return _verdict(over, f"at most {max(counts.values())} in each")


def _devices(seen: Seen) -> Verdict:
    bad = [path for path in seen.inside["devices"] if path not in _DEVICES and not path.startswith("/dev/pts/")]
    return _verdict(bad, f"{len(seen.inside['devices'])}, all harmless")


def _kernel(seen: Seen) -> Verdict:
    bad = [path for path, answer in seen.inside["kernel"].items() if answer == "done"]
    tried = seen.inside["kernel"]
    own = [path for path in bad if path != "/proc/1/oom_score_adj"]  # one's own process may lower its chances
    return _verdict(own, f"{len(tried)} tried: {', '.join(sorted(set(tried.values()) - {'done'}))}")


def _processes(seen: Seen) -> Verdict:
    limit = seen.spec.limits.processes
    told = "" if seen.outside is None or seen.outside.processes is None else f"; pids.max {seen.outside.processes}"
    if seen.forked is None:
        return Held.YES, f"the guest ended what tried more than {limit}{told}"
    count, why = seen.forked["children"], seen.forked["why"]
    text = f"{count} started, then {why}{told}"
    return _verdict(count >= limit + MARGIN or why == "done", text, text)


def _memory(seen: Seen) -> Verdict:
    if seen.outside is None:
        return Held.UNSEEN, "its control group can't be seen from here"
    found, bound = seen.outside.memory, seen.spec.limits.total_memory
    if found is None or not seen.has_group:
        return Held.NO, "no limit of its own"
    if found > bound:
        return Held.NO, f"{found // MIB} MiB instead of {bound // MIB}"
    if seen.outside.swap is not None and seen.outside.swap <= bound:
        return Held.YES, f"{found // MIB} MiB, no swap"
    return Held.NO, f"{found // MIB} MiB, and swap on top"


def _cpu(seen: Seen) -> Verdict:
    if seen.outside is None:
        return Held.UNSEEN, "its control group can't be seen from here"
    found = seen.outside.cpus
    if found is None or not seen.has_group:
        return Held.NO, "no limit of its own"
    return _verdict(found > seen.spec.limits.cpus, f"{found:g} cores", f"{found:g} cores")


def _open_files(seen: Seen) -> Verdict:
    files, core = seen.inside["open_files"], seen.inside["core"]
    text = f"{files} at most; core files of {core} bytes"
    return _verdict(files > seen.spec.limits.open_files or core != 0, text, text)


def _wall_time(seen: Seen) -> Verdict:
    end, seconds, left = seen.deadline
    text = f"a command with 0.5 s that ignores TERM ended after {seconds:.1f} s ({end}), {left} of it left"
    return _verdict(end is not CommandEnd.TIMEOUT or seconds > 15 or left > 0, text, text)


def _output(seen: Seen) -> Verdict:
    kept, total = seen.output
    text = f"{kept} of {total} bytes came back"
    return _verdict(kept > 8192, text, text)


def _environment(seen: Seen) -> Verdict:
    names = seen.inside["environment"]["names"]
    return _verdict(
        seen.inside["environment"]["secret"], f"{len(names)} variables, no planted secret", "a planted secret was read"
    )


def _host_paths(seen: Seen) -> Verdict:
    bad = ["a file of this machine's /tmp"] if seen.inside["host_path"] else []
    for entry in seen.inside["mounts"]:
        of_host = entry["kind"] not in _PSEUDO and entry["kind"] != "overlay" and entry["at"] not in _ENGINE_FILES
        if (
            of_host
            and "ro" not in entry["options"]
            and entry.get("create") == "done"
            and entry["at"] not in _folders(seen)
        ):
            bad.append(f"{entry['at']} can be written")
    return _verdict(bad, f"{len(seen.inside['mounts'])} mounts: memory, kernel, and the image read-only")


def _engine_socket(seen: Seen) -> Verdict:
    bad = [path for path in seen.inside["socket_files"] if any(name in path for name in _ENGINE)]
    return _verdict(bad, f"none among {len(seen.inside['socket_files'])} sockets in its folders")


def _labels(seen: Seen) -> Verdict:
    if seen.labels is not None:
        mine = [name for name, value in seen.labels.items() if value == seen.owner]
        return _verdict(not mine, f"its container says {', '.join(mine)}", "its container doesn't name its owner")
    if seen.outside is None:
        return Held.UNSEEN, "can't be seen from here"
    if seen.kind != "bubblewrap":
        return Held.UNSEEN, "its container was not found in the engine"
    if seen.owner in seen.outside.groups:
        return Held.YES, "its control group is named after its owner"
    if f"/{PARENT}/" in seen.outside.groups:
        return Held.NO, "its control group doesn't name its owner"
    return Held.YES, "nothing outlives its owner: no control group, and it dies with its parent"


JUDGES: dict[str, Callable[[Seen], Verdict]] = {
    "network": _network,
    "user": _user,
    "files' owner": _owner,
    "capabilities": _capabilities,
    "new privileges": _privileges,
    "system calls": _calls,
    "root filesystem": _root,
    "writable folders": _writable,
    "disk": _disk,
    "inodes": _inodes,
    "devices": _devices,
    "kernel settings": _kernel,
    "processes": _processes,
    "memory": _memory,
    "CPU": _cpu,
    "open files": _open_files,
    "wall time": _wall_time,
    "output": _output,
    "environment": _environment,
    "host paths": _host_paths,
    "engine socket": _engine_socket,
    "labels": _labels,
}
