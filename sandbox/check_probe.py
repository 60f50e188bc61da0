"""Runs inside a sandbox and tries what must not work there; prints what happened as one JSON object.

Standard library only and Python 3.6 syntax, as in the guest: it is sent in as text. Every try is harmless where it
is let through. What the answers mean is `sandbox.check`'s business.
"""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

ASKED = json.loads(sys.argv[1])


def name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def tried(work: "Callable[[], Any]") -> str:
    """The name of the error, or `done`."""
    try:
        work()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return name_of(error)
    return "done"


def lines_of(path: str) -> "list[str]":
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []


def processes() -> "list[dict[str, str]]":
    """Of every process that can be seen: the fields of its status that say what it may do."""
    wanted = ("Name", "Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        fields = dict(line.split(":\t", 1) for line in lines_of("/proc/%s/status" % pid) if ":\t" in line)
        if fields and not fields.get("State", "").startswith("Z"):
            found.append({key: fields[key] for key in wanted if key in fields})
    return found


def connected(host: str, port: int) -> str:
    def connect() -> None:
        socket.create_connection((host, port), 2).close()

    return tried(connect)


def created(folder: str) -> str:
    path = os.path.join(folder, ".patchwright-check")

    def create() -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)

    return tried(create)


def opened(path: str) -> str:
    return tried(lambda: os.close(os.open(path, os.O_WRONLY)))


def mounts() -> "list[dict[str, Any]]":
    found = []
    for line in lines_of("/proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()[0]
        at = fields[4].replace("\\040", " ")
        entry = {"at": at, "root": fields[3], "kind": kind, "options": fields[5].split(",")}
        if "rw" in entry["options"] and os.path.isdir(at):
            entry["create"] = created(at)
        found.append(entry)
    return found


def folder(path: str) -> "dict[str, Any]":
    told = os.statvfs(path)
    return {
        "bytes": told.f_blocks * told.f_frsize,
        "files": told.f_files,
        "options": told.f_flag,
        "create": created(path),
    }


def devices() -> "list[str]":
    found = []
    for at, folders, files in os.walk("/dev"):
        for name in folders + files:
            path = os.path.join(at, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and "r" in tried_both(path)):
                found.append(path)
    return found


def tried_both(path: str) -> str:
    """`r` when it can be opened for reading."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    return "r" if tried(lambda: os.close(os.open(path, flags))) == "done" else ""


def in_child(work: "Callable[[], Any]", seconds: float) -> "Any":
    """A try that may hurt who makes it: the answer of a forked child, None when it gave none."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(source)
        os.write(sink, json.dumps(work()).encode())
        os._exit(0)
    os.close(sink)
    data, end = b"", time.monotonic() + seconds
    while select.select([source], [], [], max(0.0, end - time.monotonic()))[0]:
        part = os.read(source, 65536)
        if not part:
            break
        data += part
    os.close(source)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return json.loads(data.decode()) if data else None


def system_calls() -> "dict[str, str]":
    """Each call with nothing but zeros: the filter refuses it before the kernel looks at those."""
    libc = ctypes.CDLL(None, use_errno=True)
    zeros = [ctypes.c_long(0)] * 6
    answers = {}
    for name, number in ASKED["calls"].items():
        done = libc.syscall(ctypes.c_long(number), *zeros)
        answers[name] = errno.errorcode.get(ctypes.get_errno(), "?") if done == -1 else "done"
    return answers


def sockets() -> "dict[str, str]":
    """Families of sockets by name, and whether one can be made."""
    return {
        name: tried(lambda made=made: socket.socket(*made).close())  # type: ignore[misc]
        for name, made in ASKED["sockets"].items()
    }


def socket_files() -> "list[str]":
    found = []
    for top in ("/run", "/var/run", "/tmp", "/var/lib", "/home"):
        for at, _, files in os.walk(top):
            for name in files:
                path = os.path.join(at, name)
                try:
                    if stat.S_ISSOCK(os.lstat(path).st_mode):
                        found.append(path)
                except OSError:
                    continue
            if len(found) > 50:
                return found
    return found


def environments() -> "dict[str, Any]":
    """Names of our own variables, and whether the planted secret can be read in any process."""
    secret, found = ASKED["secret"].encode(), False
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for part in ("environ", "cmdline"):
            try:
                with open("/proc/%s/%s" % (pid, part), "rb") as file:
                    found = found or (secret in file.read() and int(pid) != os.getpid())
            except OSError:
                continue
    return {"names": sorted(os.environ), "secret": found or ASKED["secret"] in str(os.environ)}


def forked() -> "dict[str, Any]":
    """How many processes can be started before one is refused, up to a bound."""
    children: list[int] = []
    why = "done"
    try:
        while len(children) < ASKED["processes"]:
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    except OSError as error:
        why = name_of(error)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)
    return {"children": len(children), "why": why}


def main() -> None:
    if ASKED.get("what") == "processes":
        print(json.dumps(forked()))
        return
    facts = {
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "processes": processes(),
        "interfaces": [line.split(":")[0].strip() for line in lines_of("/proc/net/dev")[2:]],
        "unix": [line.split()[-1] for line in lines_of("/proc/net/unix")[1:] if len(line.split()) > 7],
        "connected": {"%s:%d" % (host, port): connected(host, port) for host, port in ASKED["connect"]},
        "created": {path: created(path) for path in ASKED["folders_closed"] if os.path.isdir(path)},
        "root_read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "mounts": mounts(),
        "folders": {path: folder(path) for path in ASKED["folders"]},
        "devices": devices(),
        "kernel": {path: opened(path) for path in ASKED["kernel"] if os.path.exists(path)},
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "calls": in_child(system_calls, 10.0),
        "sockets": sockets(),
        "socket_files": socket_files(),
        "environment": environments(),
        "host_path": os.path.exists(ASKED["host_path"]),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
