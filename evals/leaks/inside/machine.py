"""What leaks besides files: variables, command lines of processes, and ways to a network.

Nothing is sent anywhere: a way out is read off the kernel's tables. Left out: what lies behind such a way.
"""

import os
import re
import socket
from typing import Iterator, Tuple

from evals.leaks.inside.lines import Lines
from evals.leaks.inside.report import Report
from evals.leaks.inside.repository import head_of

NAMES = re.compile(r"(?:^|_)(?:FAIL_TO_PASS|PASS_TO_PASS|TEST_PATCH|GOLD(?:EN)?(?:_PATCH)?|SOLUTION(?:_PATCH)?)$", re.I)
_PROXY = re.compile(r"(?:https?_proxy|all_proxy|pip_proxy|pip_index_url)$", re.I)
_PLACE = re.compile(r"(?:[a-z0-9+]+://)?(?:[^@/]*@)?(\[[^\]]+\]|[^:/]+):(\d+)")


def check_variables(lines: Lines, report: Report, *, others: bool) -> None:
    """Variables of this process, and those and the command lines of all others that can be looked at."""
    for where, text in _texts(others):
        name = text.split("=", 1)[0] if "=" in text else ""
        if name and NAMES.search(name):
            report.add("environment", f"{where} {name}", "a variable that is named after a gold field")
        elif lines.found(text.encode("utf-8", "surrogateescape")):
            report.add("environment", f"{where} {name}".strip(), "a line of the gold fields")


def _texts(others: bool) -> Iterator[Tuple[str, str]]:
    for name, value in os.environ.items():
        yield "variable", f"{name}={value}"
        yield f"variable {name}", value
    for entry in os.listdir("/proc") if others and os.path.isdir("/proc") else ():
        if entry.isdigit() and int(entry) != os.getpid():
            for file in ("environ", "cmdline"):
                for part in head_of(f"/proc/{entry}/{file}", 1 << 20).split(b"\0"):
                    yield f"/proc/{entry}/{file}", os.fsdecode(part)


def check_network(report: Report, tables: str = "/proc/net") -> None:
    """Ways out: a route of any kind, and a proxy that listens."""
    for line in head_of(os.path.join(tables, "route"), 1 << 20).splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[0] != b"lo":
            report.add("network", fields[0].decode(), "an IPv4 route leads out of the sandbox")
    for line in head_of(os.path.join(tables, "ipv6_route"), 1 << 20).splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[-1] != b"lo" and fields[1] == b"00":
            report.add("network", fields[-1].decode(), "an IPv6 route leads out of the sandbox")
    for name, value in os.environ.items():
        match = _PLACE.match(value) if _PROXY.search(name) else None
        if match and _listens(match.group(1).strip("[]"), int(match.group(2))):
            report.add("network", name, f"a proxy answers at {match.group(1)}:{match.group(2)}")


def _listens(host: str, port: int) -> bool:
    """Only ever asked on the loopback, so nothing leaves the sandbox."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        return False
    try:
        with socket.create_connection((host, port), 1.0):
            return True
    except OSError:
        return False
