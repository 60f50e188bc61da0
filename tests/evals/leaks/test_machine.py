"""Ways out of a sandbox, read off tables as the kernel writes them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from evals.leaks.inside.machine import check_network
from evals.leaks.inside.report import Report

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
NEIGHBOURS = "eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
LOOPBACK = "lo\t0000007F\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
ZERO, ONE = "0" * 32, "0" * 31 + "1"
DEFAULT_6 = f"{ZERO} 00 {ZERO} 00 fe80000000000000004211fffe000001 00000400 00000001 00000000 00000003     eth0\n"
LOOPBACK_6 = f"{ONE} 80 {ZERO} 00 {ZERO} 00000000 00000002 00000000 80200001       lo\n"
UNREACHABLE_6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if "proxy" in name.lower() or name == "PIP_INDEX_URL":
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "found"),
    [
        (HEAD, "", []),
        (HEAD + LOOPBACK, LOOPBACK_6 + UNREACHABLE_6, []),
        (HEAD + DEFAULT, LOOPBACK_6, ["IPv4"]),
        (HEAD + LOOPBACK + NEIGHBOURS, "", ["IPv4"]),
        (HEAD, DEFAULT_6 + UNREACHABLE_6, ["IPv6"]),
        ("", "", []),
    ],
)
def test_a_route_that_leads_out(ipv4: str, ipv6: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ipv4)
    (tmp_path / "ipv6_route").write_text(ipv6)
    report = Report(10, 10)
    check_network(report, str(tmp_path))
    assert [(one["kind"], one["what"].split()[1]) for one in report.findings] == [("network", kind) for kind in found]


def test_a_proxy_that_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its variable is called; one that nobody answers at, or that lies elsewhere, is no way out."""

    def found() -> list[str]:
        report = Report(10, 10)
        check_network(report, str(tmp_path))
        return [one["where"] for one in report.findings]

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "PIP_INDEX_URL"):
            with monkeypatch.context() as patch:
                patch.setenv(name, f"http://user@127.0.0.1:{port}/x")
                assert found() == [name]
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
        assert found() == []
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    assert found() == []
