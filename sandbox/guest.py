"""The one file that runs inside a sandbox: it starts commands with limits and answers file calls over stdio.

Standard library only and Python 3.6 syntax, because it must run in any image that has `python3`. It is one
process with one thread and one event loop: under a fork bomb or at the process limit it needs no new thread to
answer. It is started with its source on stdin (see `sandbox.channel`), speaks frames (two big-endian 32-bit
lengths, then JSON, then bytes) and ends when its stdin ends, taking everything that it started with it.

Left out: isolation. The machine around it (container, namespaces) is the border; the guest only sets the limits
that a process can set for itself, and keeps other processes out of its own memory and file descriptors.
"""

import collections
import ctypes
import errno
import fcntl
import heapq
import itertools
import json
import os
import re
import resource
import selectors
import signal
import stat
import struct
import subprocess
import sys
import time
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

HEADER = struct.Struct(">II")
MAX_JSON = 16 << 20
MAX_DATA = 16 << 20
READ_SIZE = 1 << 18
OUT_BACKLOG = 4 << 20  # bytes waiting for the host before a stream is held back
SPOOL_HEAD = 8 << 20  # the file of a long output holds this much from its beginning ...
SPOOL_TAIL = 4 << 20  # ... and this much from its end
DRAIN = 0.05  # seconds given to output that is on its way when the command has ended
WATCH_EVERY = 0.2
PATH_MAX = 4096  # bytes; a shell can be in a folder deeper than that, and nobody can start there again
SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash")

encode = json.JSONEncoder(separators=(",", ":")).encode
Message = Dict[str, Any]


def to_bytes(text: str) -> bytes:
    """Paths, arguments and variables are bytes here: the locale inside may know ASCII only."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class Refused(Exception):
    """A call that can't be done; becomes a FileProblem on the host."""

    def __init__(self, message: str, path: str = "", name: str = "EINVAL") -> None:
        super().__init__(message)
        self.path = path
        self.name = name


# ---------------------------------------------------------------- frames


class Link(object):
    """Frames over two non-blocking file descriptors."""

    def __init__(self, fd_in: int, fd_out: int) -> None:
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.buffer = bytearray()
        self.queue: Deque[memoryview] = collections.deque()
        self.backlog = 0

    def receive(self) -> "Optional[List[Tuple[Message, bytes]]]":
        """Frames that arrived; None when the host is gone."""
        try:
            data = os.read(self.fd_in, READ_SIZE)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self.buffer += data
        frames = []
        while len(self.buffer) >= HEADER.size:
            json_size, data_size = HEADER.unpack_from(self.buffer)
            end = HEADER.size + json_size + data_size
            if json_size > MAX_JSON or data_size > MAX_DATA:
                return None
            if len(self.buffer) < end:
                break
            body = bytes(self.buffer[HEADER.size : end])
            del self.buffer[:end]
            frames.append((json.loads(body[:json_size].decode("utf-8")), body[json_size:]))
        return frames

    def send(self, message: Message, data: bytes = b"") -> None:
        body = encode(message).encode("ascii")
        frame = HEADER.pack(len(body), len(data)) + body + data
        self.queue.append(memoryview(frame))
        self.backlog += len(frame)
        self.flush()

    def flush(self) -> None:
        while self.queue:
            try:
                sent = os.write(self.fd_out, self.queue[0])
            except BlockingIOError:
                return
            except OSError:  # the host is gone; the end of our stdin says the same
                self.queue.clear()
                self.backlog = 0
                return
            self.backlog -= sent
            if sent == len(self.queue[0]):
                self.queue.popleft()
            else:
                self.queue[0] = self.queue[0][sent:]


# ---------------------------------------------------------------- output of a command


class Tail(object):
    """The last `limit` bytes of a stream, in memory of about that size."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.chunks: Deque[bytearray] = collections.deque()
        self.size = 0

    def add(self, data: bytes) -> None:
        if not self.limit or not data:
            return
        if self.chunks and len(self.chunks[-1]) < 65536:
            self.chunks[-1] += data  # many tiny writes must not become many objects
        else:
            self.chunks.append(bytearray(data))
        self.size += len(data)
        while self.size - len(self.chunks[0]) >= self.limit:
            self.size -= len(self.chunks.popleft())

    def value(self) -> bytes:
        return b"".join(self.chunks)[-self.limit :] if self.limit else b""


class Spool(object):
    """A file with the whole output, or its two ends when that is too much."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.written = 0
        self.total = 0
        self.tail = Tail(SPOOL_TAIL)
        self.failed = False
        self.fd = fresh_file(path)

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = SPOOL_HEAD - self.written
        if room > 0:
            self._write(data[:room])
            data = data[room:]
        self.tail.add(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self.failed:
            try:
                done = os.write(self.fd, view)
            except OSError:  # the folder is full: the command goes on, its observation keeps head and tail
                self.failed = True
                return
            self.written += done
            view = view[done:]

    def finish(self) -> bool:
        """Close; False when no file is left. `complete` tells whether it holds every byte."""
        tail = self.tail.value()
        left_out = self.total - self.written - len(tail)
        self.complete = left_out == 0
        if left_out > 0:
            self._write(b"\n[... %d bytes left out of this file ...]\n" % left_out)
        self._write(tail)
        os.close(self.fd)
        if self.failed:
            os.unlink(self.path)
        return not self.failed


def fresh_file(path: bytes) -> int:
    """A new file of ours where commands can write, too: what they put there before us is never opened.

    It could be a FIFO, which would hold us up for ever, or a link to our own descriptor of the host's stream, and
    then what a command prints would be taken for what we say.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    return os.open(path, flags, 0o644)


class Output(object):
    """Both streams of a command as they came: at most `cap` bytes in memory, the rest in a bounded file."""

    def __init__(self, cap: int, path: bytes) -> None:
        self.cap = cap
        self.path = path
        self.head = bytearray()
        self.tail = Tail(cap - cap // 2)
        self.total = 0
        self.spool: Optional[Spool] = None
        self.no_spool = False

    def add(self, data: bytes) -> None:
        if self.total + len(data) > self.cap and self.spool is None and not self.no_spool:
            try:
                self.spool = Spool(self.path)
                self.spool.add(bytes(self.head) + self.tail.value())
            except OSError:
                self.no_spool = True
        if self.spool is not None:
            self.spool.add(data)
        self.total += len(data)
        room = self.cap // 2 - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail.add(data)

    def finish(self) -> "Tuple[bytes, bytes]":
        head, tail = bytes(self.head), self.tail.value()
        if self.total <= self.cap:
            return head + tail, b""
        if self.spool is not None and not self.spool.finish():
            self.spool = None
        return head, tail


# ---------------------------------------------------------------- processes


class Process(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int
    started: int  # clock ticks since boot: with the pid, a name that is never used twice
    pages: int


def processes() -> "Dict[int, Process]":
    """Every living process that /proc shows. Zombies are left out: they hold nothing."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/" + name + "/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > 21 and fields[0] not in (b"Z", b"X"):
            numbers = [int(fields[i]) for i in (1, 2, 3, 19, 21)]
            found[int(name)] = Process(int(name), *numbers)
    return found


FAULTS = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP}


def outlive_signals(handler: "Any" = lambda number, frame: None) -> None:
    """A command that ends every python by name must not end us: only the end of stdin does, and what none can catch.

    Handlers, because a signal that is ignored or blocked stays so in every command that is started.
    """
    for number in range(1, 65):
        if number not in FAULTS:
            try:
                signal.signal(number, handler)
            except (OSError, ValueError):  # KILL, STOP and the C library's own
                pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # who started us may have blocked some, as catatonit does


def signal_all(pids: "Any", number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def stop_and_kill(find: "Callable[[], Set[int]]") -> None:
    """KILL everything that `find` returns; stopped first, so that nothing can fork away meanwhile."""
    stopped: Set[int] = set()
    for _ in range(50):
        new = find() - stopped
        if not new:
            break
        signal_all(new, signal.SIGSTOP)
        stopped |= new
    signal_all(stopped, signal.SIGKILL)


def command_line(pid: int, script: bytes) -> str:
    """What a process was started as, at most 200 characters of it.

    Its short name where that can't be read, and for a part of the shell that ran `script`: it never started anything.
    """
    for name in ("cmdline", "comm"):
        try:
            with open("/proc/%d/%s" % (pid, name), "rb") as file:
                words = file.read(800)
        except OSError:
            continue
        if words and words != script:
            return to_text(words.replace(b"\0", b" ").strip())[:200]
    return ""


class Command(object):
    """One running command: a leader process in a session of its own, its pipes and its deadlines."""

    def __init__(self, number: int, request: Message, output: Output) -> None:
        now = time.monotonic()
        self.number = number
        self.output = output
        self.stream = bool(request.get("stream"))
        self.fingerprint = bool(request.get("fingerprint"))  # the answer says what the work folder is like then
        self.session_file: Optional[bytes] = None
        self.started = now
        self.deadline = now + float(request.get("timeout", 120.0))
        self.idle_timeout = request.get("idle_timeout")
        self.last_output = now
        self.grace = float(request.get("grace", 2.0))
        self.pid = 0
        self.out_fd = -1
        self.in_fd = -1
        self.err_fd = -1
        self.in_data = memoryview(b"")
        self.in_more = False
        self.status: Optional[int] = None
        self.end = "exited"
        self.kill_at: Optional[float] = None
        self.killed = False
        self.finish_at: Optional[float] = None
        self.cwd = b""
        self.started_as = b""  # the beginning of what /proc shows as its command line

    def next_event(self) -> float:
        if self.finish_at is not None:
            return self.finish_at
        if self.kill_at is not None:
            return self.kill_at
        if self.idle_timeout is not None:
            return min(self.deadline, self.last_output + float(self.idle_timeout))
        return self.deadline


def quoted(data: bytes) -> str:
    return "'" + to_text(data).replace("'", "'\\''") + "'"


def session_script(script: str, dump: bytes, restore: "Optional[bytes]", cwd: bytes, env: "Dict[str, str]") -> str:
    """A shell text that runs `script` and leaves its last folder and exported variables in the file `dump`.

    The shell itself writes and reads the variables (`export -p`), so their values need no parsing of ours, and
    an EXIT trap catches `exit` and `set -e`. Only a script that replaces the shell (`exec`) carries nothing on.
    """
    file = quoted(dump)
    save = '[ -e %s ] || { printf "%%s\\0" "$PWD"; export -p; printf ": end\\n"; } 2>/dev/null >%s' % (file, file)
    before = []
    if restore is not None:
        before = [". %s 2>/dev/null" % quoted(restore)]
        before += ["export %s=%s" % (name, quoted(to_bytes(value))) for name, value in env.items()]
        before += ['[ "$PWD" = %s ] || cd -- %s' % (quoted(cwd), quoted(cwd))]
    before += ["trap %s EXIT" % quoted(to_bytes(save)), "eval " + quoted(to_bytes(script))]
    return "; ".join(before) + '\nset -- "$?"; %s; exit "$1"' % save


_TEXT = rb'[^"\\$`\x00-\x1f\x7f]*'
PLAIN_VARIABLE = re.compile(
    rb'declare -x ([A-Za-z_][A-Za-z0-9_]*)="('
    + _TEXT
    + rb'(?:\\["\\$`]'
    + _TEXT
    + rb')*)"\n|declare -x OLDPWD\n|: end\n\Z'
)
SHELLS_OWN = re.compile(rb"(?:BASH|LD_|GLIBC|MALLOC|HIST|OPT|PS[0-9]|IFS\Z|ENV\Z|SHELLOPTS\Z|POSIXLY_CORRECT\Z|_\Z)")


def plain_variables(dump: bytes) -> "Optional[Dict[bytes, bytes]]":
    """What `export -p` wrote, where a shell that gets it as its environment comes to the same state.

    That costs a third less than reading it back. None where it doesn't: for values of several lines, attributes,
    other shells' ways of writing, and names that change how a shell starts or that it sets by itself.
    """
    variables = {}
    at = 0
    while at < len(dump):
        found = PLAIN_VARIABLE.match(dump, at)
        if found is None:
            return None
        at = found.end()
        name, value = found.group(1), found.group(2)
        if name == b"SHLVL":
            if value != b"1":
                return None
        elif name is not None:
            if SHELLS_OWN.match(name):
                return None
            variables[name] = re.sub(rb"\\(.)", rb"\1", value)
    return variables


# ---------------------------------------------------------------- files


def problem(error: OSError, path: str) -> Refused:
    name = errno.errorcode.get(error.errno or 0, "EIO")
    return Refused("%s: %s" % (path, os.strerror(error.errno or errno.EIO)), path, name)


def kind_of(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def info(path: bytes, found: os.stat_result) -> "List[Any]":
    return [
        to_text(path),
        kind_of(found.st_mode),
        found.st_size,
        stat.S_IMODE(found.st_mode),
        found.st_mtime_ns,
    ]


def open_regular(path: bytes, shown: str, flags: int = 0) -> int:
    # O_NONBLOCK: opening a FIFO, or a file that somebody has a lease on, must not block the loop
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise Refused("%s is a directory" % shown, shown, "EISDIR")
        raise Refused("%s is not a regular file" % shown, shown, "EINVAL")
    return fd


def read_range(path: bytes, shown: str, offset: int, limit: int) -> "Tuple[bytes, int]":
    """Bytes of a file, and the size of the whole."""
    fd = open_regular(path, shown)
    try:
        parts = []
        while limit > 0:
            part = os.pread(fd, limit, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            limit -= len(part)
        return b"".join(parts), os.fstat(fd).st_size
    finally:
        os.close(fd)


class Upload(object):
    """A file being written: a temporary one beside the target, renamed over it at the end."""

    def __init__(self, path: bytes, mode: "Optional[int]") -> None:
        self.target = os.path.realpath(path)  # a link keeps being a link; what it points to is replaced
        if os.path.isdir(self.target):
            raise Refused("%s is a directory" % to_text(path), to_text(path), "EISDIR")
        folder = os.path.dirname(self.target)
        os.makedirs(folder, exist_ok=True)
        if mode is None:
            try:
                mode = stat.S_IMODE(os.stat(self.target).st_mode)
            except FileNotFoundError:
                mode = 0o644
        self.mode = mode
        self.temp = os.path.join(folder, b".patchwright-%d-%d" % (os.getpid(), time.monotonic() * 1e9))
        self.fd = os.open(self.temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def add(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def commit(self) -> None:
        os.fchmod(self.fd, self.mode)
        os.close(self.fd)
        self.fd = -1
        os.rename(self.temp, self.target)

    def abort(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        try:
            os.unlink(self.temp)
        except OSError:
            pass


def listing(path: bytes, depth: int, limit: int) -> "Iterator[List[Any]]":
    """Entries below a folder in order of their path components, links not followed."""
    levels = [entries_of(path, limit)]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        yield info(entry.path, found)
        if len(levels) < depth and stat.S_ISDIR(found.st_mode):
            try:
                levels.append(entries_of(entry.path, limit))
            except OSError:
                continue


def entries_of(path: bytes, limit: int) -> "Iterator[Any]":
    """The first `limit` entries of a folder by name, however many there are."""
    with os.scandir(path) as entries:
        chosen = heapq.nsmallest(limit, ((entry.name, entry) for entry in entries))
    return iter([entry for _, entry in chosen])


def bounded(entries: "Iterator[List[Any]]", limit: int) -> "List[List[Any]]":
    """At most `limit` entries and no more than a frame may hold."""
    kept, size = [], 0
    for entry in itertools.islice(entries, limit):
        size += 6 * len(entry[0]) + 100
        if size > MAX_JSON // 4:
            break
        kept.append(entry)
    return kept


def fingerprint(root: bytes) -> str:
    import hashlib

    digest = hashlib.blake2b(digest_size=20)
    folders = [root]
    while folders:
        folder = folders.pop()
        lines = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name == b".git":
                        continue
                    s = entry.stat(follow_symlinks=False)
                    lines.append(
                        b"%s\0%d %d %d %d %d\n"
                        % (entry.name, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
                    )
                    if stat.S_ISDIR(s.st_mode):
                        folders.append(entry.path)
        except OSError as error:
            lines.append(b"?%d" % (error.errno or 0))
        lines.sort()
        digest.update(b"%s\0%d\n" % (folder, len(lines)))
        digest.update(b"".join(lines))
    return digest.hexdigest()


# ---------------------------------------------------------------- tar, in a forked child


def safe_path(root: bytes, name: str) -> bytes:
    """Where a member goes. Nothing is ever written through a link, so nothing can leave the folder."""
    parts = [part for part in to_bytes(name).split(b"/") if part not in (b"", b".")]
    if name.startswith("/") or b".." in parts:
        raise Refused("the archive holds a member that leaves the folder: %r" % name, name, "EXDEV")
    path = root
    for part in parts[:-1]:
        path = os.path.join(path, part)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            os.mkdir(path, 0o755)
            continue
        if not stat.S_ISDIR(mode):
            raise Refused("the archive writes through %r, which is not a folder" % to_text(path), name, "ENOTDIR")
    return os.path.join(path, parts[-1]) if parts else root


def clear_way(path: bytes, folder: bool) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not (folder and stat.S_ISDIR(mode)):
        os.unlink(path)


def unpack(root: bytes) -> None:
    """Extract the tar on stdin: files, folders, links; no devices, no owners, no set-user-id bits."""
    import tarfile

    folders = []
    os.makedirs(root, 0o755, exist_ok=True)
    source = os.fdopen(0, "rb", READ_SIZE)
    with tarfile.open(fileobj=source, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            path = safe_path(root, member.name)
            if path == root and not member.isdir():
                raise Refused("the archive holds a member without a name", member.name)
            seconds, _, digits = str(member.pax_headers.get("mtime", member.mtime)).partition(".")
            when = int(seconds) * 10**9 + int((digits + "0" * 9)[:9])
            if not (path == root):
                clear_way(path, member.isdir())
            if member.isdir():
                os.makedirs(path, 0o755, exist_ok=True)
                folders.append((path, member.mode & 0o777, when))
            elif member.issym():
                os.symlink(to_bytes(member.linkname), path)
                os.utime(path, ns=(when, when), follow_symlinks=False)
            elif member.islnk():
                os.link(safe_path(root, member.linkname), path, follow_symlinks=False)
            elif member.isreg():
                extract(archive.extractfile(member), path, member.mode & 0o777, when)
            else:
                raise Refused("the archive holds a device or pipe: %r" % member.name, member.name)
    for path, mode, when in reversed(folders):
        os.chmod(path, mode)
        os.utime(path, ns=(when, when))


def extract(source: "Any", path: bytes, mode: int, when: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb", 0) as target:
        while True:
            data = source.read(READ_SIZE)
            if not data:
                break
            view = memoryview(data)
            while view:
                view = view[target.write(view) or 0 :]
        os.fchmod(fd, mode)
        os.utime(fd, ns=(when, when))


# ---------------------------------------------------------------- kept states, in a forked child

RECORD = struct.Struct(">cIIIqQ")  # kind, bytes of the name, bytes of a link's target, mode, time in ns, size
EXTENT = struct.Struct(">QI")  # where a piece of a file belongs and how long it is; a length of 0 ends the file
END = b"e"


def pack(root: bytes) -> None:
    """Write a folder to stdout for `fill`: exact to the nanosecond, holes left out; no devices, pipes or sockets.

    Not a tar: Python takes ten times as long for each member of one.
    """
    seen: Dict[Tuple[int, int], bytes] = {}
    opened: List[Tuple[bytes, int]] = []  # folders that their owner, who we are, had closed to himself
    target = os.fdopen(1, "wb", READ_SIZE)
    try:
        folders = [(root, b"")]
        while folders:
            folder, inside = folders.pop()
            found = os.lstat(folder)
            record(target, b"d", inside, b"", found)
            if stat.S_IMODE(found.st_mode) & 0o500 != 0o500:
                os.chmod(folder, stat.S_IMODE(found.st_mode) | 0o500)
                opened.append((folder, stat.S_IMODE(found.st_mode)))
            for name in sorted(os.listdir(folder)):
                path, label = os.path.join(folder, name), inside + b"/" + name if inside else name
                found = os.lstat(path)
                if stat.S_ISDIR(found.st_mode):
                    folders.append((path, label))
                elif stat.S_ISLNK(found.st_mode):
                    record(target, b"l", label, os.readlink(path), found)
                elif stat.S_ISREG(found.st_mode):
                    pack_file(target, path, label, found, seen)
        target.write(RECORD.pack(END, 0, 0, 0, 0, 0))
        target.flush()
    finally:
        for folder, mode in reversed(opened):
            os.chmod(folder, mode)


def record(target: "Any", kind: bytes, label: bytes, link: bytes, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode) & 0o777
    target.write(RECORD.pack(kind, len(label), len(link), mode, found.st_mtime_ns, found.st_size) + label + link)


def pack_file(target: "Any", path: bytes, label: bytes, found: os.stat_result, seen: "Dict[Any, bytes]") -> None:
    key = (found.st_dev, found.st_ino)
    if found.st_nlink > 1 and key in seen:
        record(target, b"h", label, seen[key], found)
        return
    seen[key] = label
    # another process may have put something else there since it was looked at
    fd = with_permission(path, 0o400, lambda readable: open_regular(readable, to_text(readable), os.O_NOFOLLOW))
    try:
        found = os.fstat(fd)
        record(target, b"f", label, b"", found)
        for start, end in data_parts(fd, found):
            while start < end:
                data = os.pread(fd, min(READ_SIZE, end - start), start)
                if not data:
                    break
                target.write(EXTENT.pack(start, len(data)) + data)
                start += len(data)
        target.write(EXTENT.pack(0, 0))
    finally:
        os.close(fd)


def data_parts(fd: int, found: os.stat_result) -> "Iterator[Tuple[int, int]]":
    """Where a file holds something, as the file system says."""
    if found.st_blocks * 512 >= found.st_size:
        yield 0, found.st_size
        return
    end = 0
    while end < found.st_size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            yield end, found.st_size
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, min(end, found.st_size)


def with_permission(path: bytes, needed: int, use: "Callable[[bytes], Any]") -> "Any":
    """`use(path)`, even where its owner, who we are, took the right away from himself."""
    try:
        return use(path)
    except PermissionError:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        os.chmod(path, mode | needed)
        try:
            return use(path)
        finally:
            os.chmod(path, mode)


def fill(root: bytes) -> None:
    """Make an empty folder what `pack` has written, from stdin. Goes only where it made a folder itself."""
    source = os.fdopen(0, "rb", READ_SIZE)
    folders: Dict[bytes, Tuple[int, int]] = {}
    files: Set[bytes] = set()
    while True:
        kind, label_size, link_size, mode, when, size = RECORD.unpack(exactly(source, RECORD.size))
        if kind == END:
            break
        label, link = exactly(source, min(label_size, 1 << 16)), exactly(source, min(link_size, 1 << 16))
        folder, _, name = label.rpartition(b"/")
        fine = folder in folders and name not in (b"", b".", b"..") if folders else kind == b"d" and not label
        if not fine or mode > 0o777:
            raise Refused("the state holds what no state holds: %r" % to_text(label), to_text(label), "EXDEV")
        path = os.path.join(root, label) if label else root
        if kind == b"d":
            if label:
                os.mkdir(path, 0o700)
            folders[label] = (mode, when)
        elif kind == b"l":
            os.symlink(link, path)
            os.utime(path, ns=(when, when), follow_symlinks=False)
        elif kind == b"h" and link in files:
            os.link(os.path.join(root, link), path, follow_symlinks=False)
        else:
            fill_file(source, path, mode, when, size)
            files.add(label)
    for label in sorted(folders, reverse=True):
        mode, when = folders[label]
        path = os.path.join(root, label) if label else root
        os.chmod(path, mode)
        os.utime(path, ns=(when, when))


def fill_file(source: "Any", path: bytes, mode: int, when: int, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        reached = 0
        while True:
            start, length = EXTENT.unpack(exactly(source, EXTENT.size))
            if not length:
                break
            data = memoryview(exactly(source, min(length, READ_SIZE)))
            reached = start + len(data)
            while data:
                written = os.pwrite(fd, data, start)
                data, start = data[written:], start + written
        if size > reached:
            os.ftruncate(fd, size)
        os.fchmod(fd, mode)
        os.utime(fd, ns=(when, when))
    finally:
        os.close(fd)


def exactly(source: "Any", size: int) -> bytes:
    data: bytes = source.read(size)
    if len(data) < size:
        raise Refused("the state is cut off", "", "EIO")
    return data


def child_main(work: "Callable[[bytes], None]", root: bytes) -> int:
    """Run one of the above in the forked child; an error goes to stderr as `NAME message`."""
    try:
        work(root)
        return 0
    except Refused as error:
        text = "%s %s" % (error.name, error)
    except OSError as error:
        text = "%s %s" % (errno.errorcode.get(error.errno or 0, "EIO"), error)
    except Exception as error:  # whatever a hostile archive provokes is that archive's fault, and is reported
        text = "EINVAL the archive can't be read: %s: %s" % (type(error).__name__, error)
    os.write(2, text.encode("utf-8", "replace")[:4000])
    return 1


# ---------------------------------------------------------------- connections to the host's proxy


class Connection(object):
    """One connection that a command made to the port of the proxy, carried to the host over our own stream."""

    def __init__(self, tunnel: "Tunnel", number: int, sock: "Any") -> None:
        self.tunnel = tunnel
        self.number = number
        self.sock = sock
        self.credit = tunnel.window  # bytes that the host still takes
        self.pending = bytearray()  # bytes that the command doesn't read as fast as they come
        self.ending = False  # the host has said that no more will come
        self.events = 0

    def watch(self) -> None:
        events = selectors.EVENT_WRITE if self.pending else 0
        if self.credit and not self.ending:
            events |= selectors.EVENT_READ
        selector = self.tunnel.guest.selector
        if self.events and self.events != events:
            selector.unregister(self.sock)
        if events and self.events != events:
            selector.register(self.sock, events, self.on_ready)
        self.events = events

    def on_ready(self) -> None:
        try:
            self.flush()
            data = self.sock.recv(min(self.credit, 65536)) if self.credit and not self.ending else None
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"" or (self.ending and not self.pending):
            self.close()
            return
        if data:
            self.credit -= len(data)
            self.tunnel.say(self.number, "data", data=data)
        self.watch()

    def flush(self) -> None:
        if self.pending:
            sent = self.sock.send(self.pending)
            del self.pending[:sent]
            if not self.ending:
                self.tunnel.say(self.number, "took", sent)

    def close(self) -> None:
        if self.events:
            self.tunnel.guest.selector.unregister(self.sock)
        self.sock.close()
        self.tunnel.forget(self.number)


class Tunnel(object):
    """A listener on the loopback. More than `connections` at once wait in the kernel's queue."""

    def __init__(self, guest: "Guest", config: Message) -> None:
        import socket  # costs every start some milliseconds, and few sandboxes need it

        self.guest = guest
        self.most = config["connections"]
        self.window = config["window"]
        self.open: Dict[int, Connection] = {}
        self.count = 0
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", config["port"]))
        self.listener.listen(128)
        self.listener.setblocking(False)
        self.listening = True
        guest.selector.register(self.listener, selectors.EVENT_READ, self.on_accept)

    def say(self, number: int, what: str, count: int = 0, data: bytes = b"") -> None:
        self.guest.send({"tunnel": number, "do": what, "bytes": count}, data)

    def on_accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except OSError:  # it has gone again, or there is no descriptor left
            return
        sock.setblocking(False)
        self.count += 1
        self.open[self.count] = Connection(self, self.count, sock)
        self.say(self.count, "open")
        self.open[self.count].watch()
        if len(self.open) >= self.most:
            self.guest.selector.unregister(self.listener)
            self.listening = False

    def forget(self, number: int) -> None:
        del self.open[number]
        self.say(number, "close")
        if not self.listening:
            self.guest.selector.register(self.listener, selectors.EVENT_READ, self.on_accept)
            self.listening = True

    def on_frame(self, message: Message, data: bytes) -> None:
        connection = self.open.get(message["tunnel"])
        if connection is None:  # closed here while this was on its way
            return
        if message["do"] == "took":
            connection.credit += message["bytes"]
        elif message["do"] == "data":
            connection.pending += data
        else:
            connection.ending = True
        connection.on_ready()


# ---------------------------------------------------------------- the guest


class Guest(object):
    """Answers the host's calls. `config` comes from the host's first frame; see `sandbox.machine`."""

    def __init__(self, link: Link, config: Message) -> None:
        self.link = link
        self.workdir = to_bytes(config["workdir"])
        self.state_dir = to_bytes(config["state_dir"])
        self.env = dict(os.environb)  # the image's variables, then ours
        self.env.update({to_bytes(k): to_bytes(v) for k, v in config["env"].items()})
        self.watch_memory = config.get("watch_memory")
        self.watch_processes = config.get("watch_processes")
        self.spool_bytes = config["spool_bytes"]  # all files of long outputs together; the oldest go first
        self.pid = os.getpid()
        self.shell = next((shell for shell in SHELLS if os.path.exists(shell)), "/bin/sh")
        self.selector = selectors.DefaultSelector()
        self.commands: Dict[int, Command] = {}
        self.leaders: Dict[int, int] = {}
        self.known: Dict[Tuple[int, int], int] = {}
        self.uploads: Dict[int, Upload] = {}
        self.paused: List[Tuple[float, int]] = []
        self.held_back: Set[int] = set()
        self.spools: Deque[Tuple[bytes, int]] = collections.deque()
        self.session_cwd: Optional[bytes] = None
        self.session_env: Optional[bytes] = None  # a file with the session's variables ...
        self.session_plain: Optional[Dict[bytes, bytes]] = None  # ... or the variables, where that is the same
        self.session_dump = b""
        self.childless = True
        self.next_watch = 0.0
        self.stopping = False
        self.null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for folder in (b"outputs", b"session"):
            os.makedirs(os.path.join(self.state_dir, folder), exist_ok=True)
        self.oom_fd = open_first(config.get("oom_files", []))
        self.oom_kills = self.read_oom()
        self.tunnel = Tunnel(self, config["tunnel"]) if "tunnel" in config else None

    # -- the loop

    def serve(self) -> None:
        wake_in, wake_out = os.pipe()
        for fd in (wake_in, wake_out, self.link.fd_in, self.link.fd_out):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_out)
        outlive_signals()
        self.selector.register(wake_in, selectors.EVENT_READ, lambda: self.on_wake(wake_in))
        self.selector.register(self.link.fd_in, selectors.EVENT_READ, self.on_frames)
        while not self.stopping:
            for key, _ in self.selector.select(self.wait_time()):
                if self.selector.get_map().get(key.fd) is key:  # an event before it may have closed this one
                    key.data()
            self.tick(time.monotonic())
        self.shut_down()

    def wait_time(self) -> "Optional[float]":
        events = [command.next_event() for command in self.commands.values()]
        events += [when for when, _ in self.paused]
        if self.watching():
            events.append(self.next_watch)
        return max(0.0, min(events) - time.monotonic()) if events else None

    def watching(self) -> bool:
        return bool(self.watch_memory or self.watch_processes) and not self.childless

    def tick(self, now: float) -> None:
        for command in list(self.commands.values()):
            if now >= command.next_event():
                self.on_time(command, now)
        for item in [item for item in self.paused if item[0] <= now]:
            self.paused.remove(item)
            self.selector.register(item[1], selectors.EVENT_READ, lambda fd=item[1]: self.on_leftover(fd))
        if self.watching() and now >= self.next_watch:
            self.next_watch = now + WATCH_EVERY
            self.watch()

    def on_wake(self, fd: int) -> None:
        try:
            os.read(fd, 4096)
        except BlockingIOError:
            pass
        self.reap()

    def reap(self) -> None:
        ended = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                break
            if pid == 0:
                self.childless = False
                break
            ended.append((pid, status))
        for pid, status in ended:
            command = self.commands.get(self.leaders.get(pid, 0))
            if command is not None and command.pid == pid and command.status is None:
                command.status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
                self.on_exit(command)
        for command in list(self.commands.values()):
            if command.kill_at is not None and command.status is not None:
                self.on_exit(command)

    def shut_down(self) -> None:
        stop_and_kill(lambda: set(self.owners()))
        for upload in self.uploads.values():
            upload.abort()
        end = time.monotonic() + 2.0
        while not self.childless and time.monotonic() < end:
            time.sleep(0.002)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break

    # -- who started what

    def owners(self) -> "Dict[int, int]":
        """Every process below this one -> number of the command that it came from.

        Orphans are re-parented to the guest (a child subreaper), so a daemon that forked twice is still found.
        """
        table = processes()
        owner: Dict[int, int] = {}
        last = max(self.commands) if self.commands else 0
        for process in table.values():
            chain: List[Process] = []
            current: Optional[Process] = process
            number = None
            while current is not None and current.pid != self.pid and len(chain) < 1000:
                chain.append(current)
                number = owner.get(current.pid)
                if number is None and current.parent == self.pid:
                    number = self.root_owner(current, last)
                if number is not None:
                    break
                current = table.get(current.parent)
            if number is not None:
                for item in chain:
                    owner[item.pid] = number
        self.known = {(pid, table[pid].started): number for pid, number in owner.items()}
        alive = {process.session for process in table.values()} | {process.group for process in table.values()}
        numbers = set(self.commands)
        self.leaders = {p: n for p, n in self.leaders.items() if n in numbers or p in alive}
        return owner

    def root_owner(self, process: Process, last: int) -> int:
        for leader in (process.pid, process.group, process.session):
            if leader in self.leaders:
                return self.leaders[leader]
        return self.known.get((process.pid, process.started), last)

    def belongings(self, command: Command) -> "Set[int]":
        return {pid for pid, number in self.owners().items() if number == command.number}

    # -- starting and ending commands

    def spawn(self, request: Message, data: bytes) -> None:
        number = int(request["id"])
        command = Command(number, request, Output(int(request["max_output"]), self.spool_path(number)))
        stdin, command.in_fd = self.stdin_pipe(command, request, data)
        command.out_fd, stdout = os.pipe()
        try:
            arguments, environment, command.cwd = self.prepare(command, request)
            command.started_as = b"".join(word + b"\0" for word in arguments)[:800]
            command.pid = self.popen(arguments, environment, command.cwd, stdin, stdout)
        except (OSError, ValueError) as error:
            self.not_started(command, error)
            return
        finally:
            os.close(stdout)
            if stdin != self.null:
                os.close(stdin)
        self.watch_pipes(command)

    def watch_pipes(self, command: Command) -> None:
        if self.childless:  # a limit that was never near needs no look at every process for a short command
            self.next_watch = max(self.next_watch, time.monotonic() + WATCH_EVERY)
        self.childless = False
        self.leaders[command.pid] = command.number
        self.commands[command.number] = command
        widen(command.out_fd)
        self.selector.register(command.out_fd, selectors.EVENT_READ, lambda: self.on_output(command))
        if command.in_fd >= 0:
            widen(command.in_fd)
            self.selector.register(command.in_fd, selectors.EVENT_WRITE, lambda: self.on_stdin(command))

    def stdin_pipe(self, command: Command, request: Message, data: bytes) -> "Tuple[int, int]":
        if not data and not request.get("more"):
            return self.null, -1
        command.in_data, command.in_more = memoryview(data), bool(request.get("more"))
        return os.pipe()

    def prepare(self, command: Command, request: Message) -> "Tuple[List[bytes], Dict[bytes, bytes], bytes]":
        environment = dict(self.env)
        extra = request.get("env") or {}
        environment.update({to_bytes(k): to_bytes(v) for k, v in extra.items()})
        session = bool(request.get("keep_session"))
        start = self.session_cwd if session and self.session_cwd else self.workdir
        if request.get("cwd") is not None:
            start = os.path.join(self.workdir, to_bytes(request["cwd"]))
        elif start != self.workdir and not os.path.isdir(start):
            command.output.add(b"[the folder %s is gone; this ran in %s]\n" % (start, self.workdir))
            start = self.workdir
        environment[b"PWD"] = start
        if "argv" in request:
            return [to_bytes(word) for word in request["argv"]], environment, start
        script = request["script"]
        if session:
            command.session_file = self.session_path(b"%d" % command.number)
            self.make_way(command.session_file)
            script = session_script(script, command.session_file, self.session_env, start, extra)
            if self.session_env is not None or self.session_plain is not None:
                environment = {k: v for k, v in environment.items() if not to_text(k).isidentifier()}
            if self.session_plain is not None:
                environment.update(self.session_plain)
                environment.update({to_bytes(k): to_bytes(v) for k, v in extra.items()})
                environment[b"PWD"] = start
        text = to_bytes(script)
        if len(text) < 100000:  # one argument may have 128 KiB
            return [to_bytes(self.shell), b"-c", text], environment, start
        path = self.session_path(b"%d.sh" % command.number)
        with os.fdopen(fresh_file(path), "wb") as file:
            file.write(text)
        return [to_bytes(self.shell), path], environment, start

    def make_way(self, path: bytes) -> None:
        """What a command put there before it must not be taken for what this one's shell leaves there."""
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.unlink(path)
        except OSError:  # most often: nothing is there
            pass

    def session_path(self, name: bytes) -> bytes:
        return os.path.join(self.state_dir, b"session", name)

    def spool_path(self, number: int) -> bytes:
        return os.path.join(self.state_dir, b"outputs", b"%d.txt" % number)

    def popen(
        self, arguments: "List[bytes]", environment: "Dict[bytes, bytes]", cwd: bytes, stdin: int, stdout: int
    ) -> int:
        process = subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=stdout,
            close_fds=False,  # every descriptor of ours is close-on-exec
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
        process.returncode = 0  # reaped by us, in `reap`
        try:  # when memory runs out, a command goes before the guest
            fd = os.open("/proc/%d/oom_score_adj" % process.pid, os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, b"500")
            os.close(fd)
        except OSError:
            pass
        return process.pid

    def not_started(self, command: Command, error: Exception) -> None:
        """The answer that a shell would give: 127 not found, 126 not possible."""
        for fd in (command.out_fd, command.in_fd):
            if fd >= 0:
                os.close(fd)
        command.out_fd = command.in_fd = -1
        command.status = 126
        text = "cannot start the command: %s" % error
        if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM):
            running = len(self.owners())
            text = "cannot start the command: the sandbox's limit on processes or memory is reached"
            text += " (%d running; end some with `kill` from one command, or wait)" % running
        elif isinstance(error, FileNotFoundError) and to_bytes_any(error.filename) == command.cwd:
            text = "cannot start the command: there is no folder %s" % to_text(command.cwd)
        elif isinstance(error, FileNotFoundError):
            command.status = 127
            text = "command not found: %s" % to_text(to_bytes_any(error.filename))
        command.output.add(text.encode("utf-8", "surrogateescape") + b"\n")
        self.answer(command, [])

    def fork(self, request: Message, data: bytes, work: "Callable[[bytes], None]") -> None:
        """Run a function of this file as a command: bounded, cancellable, and the loop goes on."""
        root = self.path(request["path"])
        command = Command(int(request["id"]), request, Output(4096, self.spool_path(0)))
        if work is pack:
            command.stream = True
        stdin, command.in_fd = self.stdin_pipe(command, request, data)
        command.out_fd, stdout = os.pipe()
        err_out, err_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setsid()
                outlive_signals(signal.SIG_DFL)
                for old, new in ((stdin, 0), (stdout, 1), (err_in, 2)):
                    os.dup2(old, new)
                os.closerange(3, 1024)
                code = child_main(work, root)
            finally:
                os._exit(code)
        for fd in (stdout, err_in) + ((stdin,) if stdin != self.null else ()):
            os.close(fd)
        command.pid, command.err_fd = pid, err_out
        self.watch_pipes(command)

    def terminate(self, command: Command, end: str, now: float) -> None:
        command.end = end
        command.kill_at = now + command.grace
        command.finish_at = None
        pids = sorted(self.belongings(command), key=lambda pid: (pid != command.pid, pid))
        signal_all(pids, signal.SIGTERM)  # parents first, or a shell would go on with its next line
        signal_all(pids, signal.SIGCONT)

    def on_time(self, command: Command, now: float) -> None:
        if command.finish_at is not None:
            self.finish(command)
        elif command.kill_at is None:
            self.terminate(command, "timeout" if now >= command.deadline else "idle", now)
        elif not command.killed:
            command.killed = True
            stop_and_kill(lambda: self.belongings(command))
            command.kill_at = now + 5.0  # a process in the kernel's hands may not die at once
            self.reap()
        else:
            self.finish(command)

    def on_exit(self, command: Command) -> None:
        """The leader is gone (or, while ending, somebody is). The command's end is the leader's, not the pipe's."""
        if command.kill_at is not None and not self.childless:  # what is killed takes a moment to be gone
            if self.belongings(command):
                return
        if command.out_fd >= 0 and command.out_fd not in self.held_back:
            self.on_output(command)
        if command.number not in self.commands:
            return
        if command.out_fd < 0 or command.kill_at is not None:
            self.finish(command)
        elif command.stream:
            return  # ends with its pipe: what is held back, because the host reads slowly, must not be lost
        elif command.finish_at is None:
            command.finish_at = time.monotonic() + DRAIN

    def on_output(self, command: Command) -> None:
        for _ in range(16):
            if command.stream and self.link.backlog > OUT_BACKLOG:
                self.selector.unregister(command.out_fd)
                self.held_back.add(command.out_fd)
                return
            try:
                data = os.read(command.out_fd, READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                self.selector.unregister(command.out_fd)
                os.close(command.out_fd)
                command.out_fd = -1
                if command.status is not None:
                    self.finish(command)
                return
            command.last_output = time.monotonic()
            if command.stream:
                command.output.total += len(data)
                self.send({"id": command.number, "part": 1}, data)
            else:
                command.output.add(data)

    def on_stdin(self, command: Command) -> None:
        try:
            if command.in_data:
                command.in_data = command.in_data[os.write(command.in_fd, command.in_data) :]
        except BlockingIOError:
            return
        except OSError:  # it reads no more
            command.in_data, command.in_more = memoryview(b""), False
        if command.in_data:
            return
        self.selector.unregister(command.in_fd)
        if command.in_more:
            self.send({"id": command.number, "want": 1})
        else:
            os.close(command.in_fd)
            command.in_fd = -1

    def on_leftover(self, fd: int) -> None:
        """Output of background processes whose command has ended: read slowly and dropped, so they never block."""
        self.selector.unregister(fd)
        try:
            if os.read(fd, READ_SIZE):
                self.paused.append((time.monotonic() + 0.05, fd))
            else:
                os.close(fd)
        except BlockingIOError:
            self.paused.append((time.monotonic() + 0.05, fd))

    def finish(self, command: Command) -> None:
        self.commands.pop(command.number, None)
        left: List[int] = []
        if not self.childless:
            self.commands[command.number] = command
            left = sorted(self.belongings(command) - {command.pid})
            del self.commands[command.number]
        for fd in (command.in_fd, command.out_fd):
            if fd >= 0 and fd in self.selector.get_map():
                self.selector.unregister(fd)
        if command.in_fd >= 0:
            os.close(command.in_fd)
        if command.out_fd >= 0:
            self.held_back.discard(command.out_fd)
            if left:
                self.paused.append((time.monotonic(), command.out_fd))
            else:
                os.close(command.out_fd)
        if not left:
            self.leaders.pop(command.pid, None)
        self.answer(command, left)

    def answer(self, command: Command, left: "List[int]") -> None:
        head, tail = command.output.finish()
        spool = command.output.spool
        if spool is not None:
            self.keep_spool(spool)
        status = 124 if command.end in ("timeout", "idle") else command.status
        if self.read_oom() > self.oom_kills:
            self.oom_kills = self.read_oom()
            if command.end == "exited" and status != 0:
                command.end = "memory"
        message = {
            "id": command.number,
            "exit_code": 137 if status is None else status,
            "head": len(head),
            "total": command.output.total,
            "seconds": round(time.monotonic() - command.started, 6),
            "end": command.end,
            "output_file": to_text(spool.path) if spool else None,
            "complete": spool.complete if spool else True,
            "still_running": left[:100],
            "command_lines": [command_line(pid, command.started_as) for pid in left[:20]],
            "cwd": self.end_session(command),
        }
        if command.fingerprint:
            message["digest"] = fingerprint(self.workdir)
        if command.err_fd >= 0:
            message["error_text"] = os.read(command.err_fd, 4096).decode("utf-8", "replace")
            os.close(command.err_fd)
        self.send(message, head + tail)

    def keep_spool(self, spool: Spool) -> None:
        self.spools.append((spool.path, spool.written))
        while sum(size for _, size in self.spools) > self.spool_bytes and len(self.spools) > 1:
            try:
                os.unlink(self.spools.popleft()[0])
            except OSError:
                pass

    def end_session(self, command: Command) -> "Optional[str]":
        """Take over what the shell left in its dump; a dump that is missing or cut changes nothing."""
        if command.session_file is None:
            return None
        try:
            with os.fdopen(open_regular(command.session_file, "", os.O_NOFOLLOW), "rb") as file:
                size = min(os.fstat(file.fileno()).st_size, 4 << 20)
                cwd, _, variables = file.read(size).partition(b"\0")
            if variables.endswith(b": end\n") and cwd.startswith(b"/"):
                self.keep_variables(command.session_file, variables)
                self.session_cwd = cwd if len(cwd) < PATH_MAX else self.session_cwd
        except (OSError, Refused):
            pass
        return to_text(self.session_cwd or self.workdir)

    def keep_variables(self, dump: bytes, variables: bytes) -> None:
        if variables == self.session_dump:
            os.unlink(dump)
            return
        plain, env_file = plain_variables(variables), None
        if plain is None:
            env_file = self.session_path(b"env")
            with os.fdopen(fresh_file(dump), "wb") as file:
                file.write(variables)
            os.rename(dump, env_file)
        else:
            os.unlink(dump)
        self.session_dump, self.session_plain, self.session_env = variables, plain, env_file

    # -- limits where the kernel gives none

    def read_oom(self) -> int:
        if self.oom_fd < 0:
            return 0
        for line in os.pread(self.oom_fd, 4096, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def watch(self) -> None:
        """Sum memory and count processes; over a limit, the largest one (or all of the newest command's) goes."""
        owners = self.owners()
        table = processes()
        mine = [table[pid] for pid in owners if pid in table]
        page = resource.getpagesize()
        if self.watch_memory and sum(p.pages for p in mine) * page > self.watch_memory:
            sizes = [(proportional_size(p.pid, p.pages * page), p.pid) for p in mine]
            if sum(size for size, _ in sizes) > self.watch_memory:
                pid = max(sizes)[1]
                signal_all([pid], signal.SIGKILL)
                command = self.commands.get(owners[pid])
                if command is not None and command.end == "exited":
                    command.end = "memory"
        if self.watch_processes and len(mine) > self.watch_processes and self.commands:
            newest = self.commands[max(self.commands)]
            stop_and_kill(lambda: self.belongings(newest))

    # -- calls

    def send(self, message: Message, data: bytes = b"") -> None:
        self.link.send(message, data)
        if self.link.queue and self.link.fd_out not in self.selector.get_map():
            self.selector.register(self.link.fd_out, selectors.EVENT_WRITE, self.on_writable)

    def on_writable(self) -> None:
        self.link.flush()
        if not self.link.queue:
            self.selector.unregister(self.link.fd_out)
        if self.link.backlog < OUT_BACKLOG // 2:
            for command in self.commands.values():
                if command.out_fd in self.held_back:
                    self.held_back.discard(command.out_fd)
                    self.selector.register(
                        command.out_fd, selectors.EVENT_READ, lambda command=command: self.on_output(command)
                    )

    def on_frames(self) -> None:
        frames = self.link.receive()
        if frames is None:
            self.stopping = True
            return
        for message, data in frames:
            try:
                self.call(message, data)
            except Refused as error:
                self.fail(message, str(error), error.path, error.name)
            except OSError as error:
                refused = problem(error, str(message.get("path", "")))
                self.fail(message, str(refused), refused.path, refused.name)
            except (ValueError, OverflowError) as error:  # a zero byte in a path, a number that no file has
                self.fail(message, str(error), str(message.get("path", "")), "EINVAL")

    def fail(self, message: Message, text: str, path: str, name: str) -> None:
        self.send({"id": message.get("id"), "error": text, "path": path, "errno": name})

    def path(self, text: str) -> bytes:
        return os.path.normpath(os.path.join(self.workdir, to_bytes(text))) if text else self.workdir

    def call(self, message: Message, data: bytes) -> None:
        operation = message["op"]
        if operation == "run":
            self.spawn(message, data)
        elif operation == "data":
            self.on_data(message, data)
        elif operation == "tunnel" and self.tunnel is not None:
            self.tunnel.on_frame(message, data)
        elif operation == "cancel":
            command = self.commands.get(message["target"])
            if command is not None and command.kill_at is None:
                command.grace = min(command.grace, 0.5)
                self.terminate(command, "cancelled", time.monotonic())
            upload = self.uploads.pop(message["target"], None)
            if upload is not None:
                upload.abort()
        elif operation == "pack":
            self.fork(message, data, pack)
        elif operation == "unpack":
            self.fork(message, data, unpack)
        elif operation == "fill":
            self.fork(message, data, fill)
        elif operation == "write":
            self.uploads[message["id"]] = Upload(self.path(message["path"]), message.get("mode"))
            self.on_data(message, data)
        else:
            self.file_call(operation, message)

    def on_data(self, message: Message, data: bytes) -> None:
        number = message["id"]
        command = self.commands.get(number)
        if command is not None and command.in_fd >= 0:
            command.in_data, command.in_more = memoryview(data), bool(message.get("more"))
            self.selector.register(command.in_fd, selectors.EVENT_WRITE, lambda: self.on_stdin(command))
        upload = self.uploads.get(number)
        if upload is None:
            return
        try:
            upload.add(data)
            if message.get("more"):
                self.send({"id": number, "want": 1})
                return
            upload.commit()
        except OSError:
            upload.abort()
            del self.uploads[number]
            raise
        del self.uploads[number]
        self.send({"id": number})

    def file_call(self, operation: str, message: Message) -> None:
        reply: Message = {"id": message["id"]}
        shown = message.get("path", "")
        path = self.path(shown)
        data = b""
        if operation == "read":
            limit = min(int(message["limit"]), MAX_DATA)
            data, reply["size"] = read_range(path, shown, int(message["offset"]), limit)
        elif operation == "stat":
            reply["info"] = info(path, os.lstat(path))
        elif operation == "list":
            limit = int(message["limit"])
            reply["entries"] = bounded(listing(path, int(message["depth"]), limit), limit)
        elif operation == "fingerprint":
            reply["digest"] = fingerprint(self.workdir)
        elif operation != "ping":
            raise Refused("the guest knows no call named %r" % operation)
        self.send(reply, data)


def to_bytes_any(name: "Any") -> bytes:
    return name if isinstance(name, bytes) else to_bytes(str(name))


def widen(fd: int) -> None:
    """Our end of a command's pipe: never blocking, and larger where the kernel allows, for fewer wake-ups."""
    os.set_blocking(fd, False)
    try:
        fcntl.fcntl(fd, 1031, 1 << 18)  # F_SETPIPE_SZ
    except OSError:
        pass


def on_path(name: bytes, env: "Dict[bytes, bytes]") -> bool:
    folders = env.get(b"PATH", b"/bin:/usr/bin").split(b":")
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in folders)


def open_first(paths: "List[str]") -> int:
    for path in paths:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    return -1


def proportional_size(pid: int, otherwise: int) -> int:
    """Bytes of memory with shared pages divided among their holders."""
    try:
        with open("/proc/%d/smaps_rollup" % pid, "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return otherwise


# ---------------------------------------------------------------- start


def harden(config: Message, program: bytes) -> "Dict[str, bool]":
    """What a process can do for itself. Commands inherit the filter and the limits, not the rest."""
    for name, value in config.get("rlimits", {}).items():
        number = getattr(resource, "RLIMIT_" + name.upper())
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    os.umask(0o022)
    libc = ctypes.CDLL(None, use_errno=True)
    done = {
        # nobody inside may trace the guest or write into its descriptors and so speak in its name
        "private": libc.prctl(4, 0, 0, 0, 0) == 0,
        "subreaper": libc.prctl(36, 1, 0, 0, 0) == 0,
        "no_new_privileges": libc.prctl(38, 1, 0, 0, 0) == 0,
        "seccomp": True,
    }
    if program:
        filters = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HP", len(program) // 8, ctypes.addressof(filters))
        done["seccomp"] = libc.prctl(22, 2, ctypes.create_string_buffer(header, len(header)), 0, 0) == 0
    return done


def take_stdio() -> Link:
    """Move our descriptors away from 0, 1, 2, where a command could reach them."""
    fd_in, fd_out = os.dup(0), os.dup(1)
    sys.stderr = os.fdopen(os.dup(2), "w")  # a crash of the guest says its last words to the host
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    return Link(fd_in, fd_out)


def main() -> None:
    link = take_stdio()
    frames = link.receive()
    while frames == []:
        frames = link.receive()
    if frames is None:
        return
    config, program = frames[0]
    try:
        done = harden(config, program)
        guest = Guest(link, config)
    except (OSError, ValueError) as error:
        link.send({"id": 0, "error": "the guest can't start: %s" % error, "path": "", "errno": "EIO"})
        return
    link.send(
        {
            "id": 0,
            "pid": os.getpid(),
            "uid": os.getuid(),
            "python": "%d.%d.%d" % sys.version_info[:3],
            "shell": guest.shell,
            "git": on_path(b"git", guest.env),
            "done": done,
        }
    )
    guest.serve()


if __name__ == "__main__":
    main()
