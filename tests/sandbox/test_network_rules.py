"""What the network `registries` lets through, without a sandbox: places, addresses, requests, TLS, configuration."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.channel import Channel, Message, ProtocolBroken
from sandbox.network import INDEXES, AllowList, allow_list, normal_host, on_link_networks
from sandbox.network_http import MAX_HEADERS, Refused, parse_request, server_name
from sandbox.network_settings import HostSettings, host_settings
from sandbox.network_tunnel import Tunnel
from sandbox.policy import CONNECTIONS, WINDOW

PUBLIC = INDEXES["Rust"][0]
OWN = AllowList({(PUBLIC, 443): False, ("index.example", 8080): True})


# ---------------------------------------------------------------- addresses

NOWHERE = [
    "127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "198.18.0.1", "fc00::1", "fd12::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1",
    "2001:0:1::1", "192.88.99.1",
]  # fmt: skip
NOBODYS = [
    "169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255",
    "240.0.0.1", "ff02::1", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "::ffff:169.254.169.254",
    "192.0.0.192", "not an address",
]  # fmt: skip


@pytest.mark.parametrize("address", NOWHERE)
def test_private_addresses_are_for_configured_indexes_only(address: str) -> None:
    assert OWN.refusal(PUBLIC, 443, [address], ())
    assert OWN.refusal("index.example", 8080, [address], ()) is None


@pytest.mark.parametrize("address", NOBODYS)
def test_some_addresses_are_for_nobody(address: str) -> None:
    assert OWN.refusal(PUBLIC, 443, [address], ())
    assert OWN.refusal("index.example", 8080, [address], ())


def test_public_addresses_go_and_one_bad_one_refuses_them_all() -> None:
    assert OWN.refusal(PUBLIC, 443, ["151.101.0.223", "2a04:4e42::223"], ()) is None
    assert OWN.refusal(PUBLIC, 443, ["151.101.0.223", "10.0.0.1"], ())


def test_neighbours_are_refused_whatever_their_range() -> None:
    near = [ipaddress.ip_network("151.101.0.0/24")]
    assert OWN.refusal(PUBLIC, 443, ["151.101.0.223"], near)
    assert OWN.refusal(PUBLIC, 443, ["151.101.1.223"], near) is None
    assert OWN.refusal("index.example", 8080, ["151.101.0.223"], near) is None


def test_networks_of_this_machine_are_read(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    row = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 {} 00000100 1 0 1 eth0\n"
    (tmp_path / "ipv6_route").write_text(row.format("0" * 32) + row.format("fe80" + "0" * 28).replace("fd00", "fd99"))
    assert [str(network) for network in on_link_networks(tmp_path)] == ["192.0.2.0/24", "fd00::/64"]
    assert on_link_networks(tmp_path / "missing") == ()


def test_names_are_compared_in_one_form() -> None:
    assert normal_host("Index.Example.") == "index.example"
    assert normal_host("[::1]") == "::1"
    for text in ("", "a b", "a@b", "[::1", "[127.0.0.1]", "-a", "a..", "ä.example", "a/b", "a\x00b"):
        assert normal_host(text) is None, text


# ---------------------------------------------------------------- requests


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_requests() -> None:
    asked = parse_request(head("CONNECT index.example:443 HTTP/1.1", "Host: elsewhere:1"))
    assert (asked.host, asked.port, asked.forwarded) == ("index.example", 443, b"")
    asked = parse_request(
        head("GET http://Index.Example:8080/a%20b?c=d HTTP/1.1", "Host: other", "Accept: */*", "Proxy-Connection: x")
    )
    assert (asked.host, asked.port) == ("index.example", 8080)
    assert asked.forwarded == (
        b"GET /a%20b?c=d HTTP/1.1\r\nhost: index.example:8080\r\nconnection: close\r\naccept: */*\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["CONNECT index.example HTTP/1.1"], 400),
        (["CONNECT index.example:0 HTTP/1.1"], 400),
        (["CONNECT index.example:99999 HTTP/1.1"], 400),
        (["CONNECT a@index.example:443 HTTP/1.1"], 400),
        (["CONNECT http://index.example:443 HTTP/1.1"], 400),
        (["GET / HTTP/1.1", "Host: index.example"], 400),
        (["GET https://index.example/ HTTP/1.1"], 400),
        (["GET ftp://index.example/ HTTP/1.1"], 400),
        (["GET http://index.example@evil.example/ HTTP/1.1"], 400),
        (["GET http://evil.example\\@index.example/ HTTP/1.1"], 400),
        (["GET http://index.example/a HTTP/1.1", "Content-Length: 5"], 400),
        (["GET http://index.example/a HTTP/1.1", "Content-Length: 0", "Content-Length: 9"], 400),
        (["GET http://index.example/a HTTP/1.1", "Transfer-Encoding: chunked"], 400),
        (["GET http://index.example/a HTTP/1.1", "transfer-encoding : chunked"], 400),
        (["GET http://index.example/a HTTP/1.1", "Host: a", "Host: b"], 400),
        (["GET http://index.example/a HTTP/1.1", "A: b", " folded: c"], 400),
        (["GET http://index.example/a HTTP/1.1", "A: b\nTransfer-Encoding: chunked"], 400),
        (["GET http://index.example/a HTTP/1.1", "A: b\x00"], 400),
        (["GET http://index.example/a b HTTP/1.1"], 400),
        (["GET http://index.example/a HTTP/2"], 400),
        (["POST http://index.example/a HTTP/1.1"], 405),
        (["GET http://index.example/a HTTP/1.1", *["A: b"] * (MAX_HEADERS + 1)], 431),
    ],
)
def test_what_is_unusual_is_refused(lines: list[str], status: int) -> None:
    with pytest.raises(Refused) as caught:
        parse_request(head(*lines))
    assert caught.value.status == status


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parsers(data: bytes) -> None:
    for parser in (lambda: parse_request(data + b"\r\n\r\n"), lambda: server_name(data)):
        try:
            parser()
        except Refused:
            continue


# ---------------------------------------------------------------- TLS


def hello(name: str | None) -> bytes:
    """What Python's own TLS says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("name", ["index.example", None])
def test_the_name_in_tls_is_read(name: str | None) -> None:
    data = hello(name)
    assert server_name(data) == (name or "")
    assert {server_name(data[:size]) for size in range(len(data))} == {None}


def test_a_hello_in_many_records_is_read() -> None:
    data = hello("index.example")
    body = data[5:]
    cut = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (body[at : at + 50] for at in range(0, len(body), 50))
    )
    assert server_name(cut) == "index.example"


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n", b"\x17\x03\x03\x00\x01x", b"\x16\x02\x00\x00\x01x"]
)
def test_other_protocols_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        server_name(data)


def test_an_encrypted_name_is_refused() -> None:
    data = hello("index.example")
    size = int.from_bytes(data[6:9], "big")
    extended = data[9 : 9 + size] + b"\xfe\x0d\x00\x01x"
    at = 34 + 1 + extended[34]
    at += 2 + int.from_bytes(extended[at : at + 2], "big")
    at += 1 + extended[at]
    extensions = int.from_bytes(extended[at : at + 2], "big") + 5
    body = extended[:at] + extensions.to_bytes(2, "big") + extended[at + 2 :]
    record = b"\x01" + len(body).to_bytes(3, "big") + body
    with pytest.raises(Refused, match="encrypted"):
        server_name(b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record)


# ---------------------------------------------------------------- the host's configuration


def test_configuration_of_the_host(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    files = {
        home / ".config/pip/pip.conf": "[global]\nindex-url = https://pip.example/simple\ntrusted-host = pip.example\n"
        "[install]\nextra-index-url =\n  https://me:secret@more.example:8443/x\n  https://plain.example/y\n",
        root / "etc/pip.conf": "[global]\nindex-url = https://weaker.example/\nfind-links = /folder/of/wheels\n",
        home
        / ".npmrc": 'registry=https://npm.example/\n@mine:registry = "http://scoped.example:4873/"\ncafile=/none\n',
        home / ".config/go/env": "GOPROXY=https://go.example|direct\n",
        home / ".cargo/config.toml": '[registries.mine]\nindex = "sparse+https://cargo.example/i/"\n',
        root
        / "etc/apt/sources.list": "# deb http://off.example x main\ndeb [trusted=yes] http://apt.example/d x main\n",
        root / "etc/apt/sources.list.d/a.sources": "Types: deb\nURIs: https://deb822.example/d\nSuites: x\n",
        tmp_path / "ca.crt": "x",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = host_settings({"SSL_CERT_FILE": str(tmp_path / "ca.crt")}, home, root)
    assert found.places == {
        ("pip.example", 443), ("more.example", 8443), ("plain.example", 443), ("npm.example", 443),
        ("scoped.example", 4873), ("go.example", 443), ("cargo.example", 443), ("apt.example", 80),
        ("deb822.example", 443),
    }  # fmt: skip
    assert found.variables == {
        "PIP_INDEX_URL": "https://pip.example/simple", "PIP_EXTRA_INDEX_URL": "https://plain.example/y",
        "PIP_TRUSTED_HOST": "pip.example", "GOPROXY": "https://go.example", "npm_config_registry": "https://npm.example/",
    }  # fmt: skip
    assert found.left_out == ("PIP_EXTRA_INDEX_URL holds a password",)
    assert found.ca_bundle == tmp_path / "ca.crt"
    stronger = host_settings({"PIP_INDEX_URL": "https://env.example/"}, home, root)
    assert (stronger.variables or {})["PIP_INDEX_URL"] == "https://env.example/"
    assert allow_list(found).has("pip.example", 443) and allow_list(found).has(PUBLIC, 443)
    assert not allow_list(HostSettings()).has("pip.example", 443)
    assert not allow_list(found).has("pip.example", 80)


def test_an_index_on_the_loopback_has_another_name_inside(tmp_path: Path) -> None:
    env = {"PIP_INDEX_URL": "http://localhost:3141/root", "npm_config_registry": "http://[::1]:4873/",
           "GOPROXY": "https://127.0.0.1,https://localhost.example"}  # fmt: skip
    found = host_settings(env, tmp_path, tmp_path)
    assert found.variables == {
        "PIP_INDEX_URL": "http://host.internal:3141/root", "PIP_TRUSTED_HOST": "host.internal",
        "npm_config_registry": "http://host.internal:4873/", "GOPROXY": "https://host.internal,https://localhost.example",
    }  # fmt: skip
    assert ("host.internal", 3141) in found.places and ("host.internal", 443) in found.places


# ---------------------------------------------------------------- frames about connections


class _Wire:
    def __init__(self) -> None:
        self.sent = 0

    def write(self, data: bytes) -> None:
        self.sent += len(data)

    async def drain(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "frames",
    [
        [({"tunnel": 1, "do": "data"}, b"x")],
        [({"tunnel": "1", "do": "open"}, b"")],
        [({"tunnel": 1, "do": "open"}, b""), ({"tunnel": 1, "do": "open"}, b"")],
        [({"tunnel": 1, "do": "open"}, b""), ({"tunnel": 1, "do": "dance"}, b"")],
        [({"tunnel": 1, "do": "open"}, b""), ({"tunnel": 1, "do": "took", "bytes": 1}, b"")],
        [({"tunnel": 1, "do": "open"}, b""), ({"tunnel": 1, "do": "took", "bytes": "1"}, b"")],
        [({"tunnel": 1, "do": "open"}, b""), ({"tunnel": 1, "do": "data"}, b"x" * (WINDOW + 1))],
        [({"tunnel": 1, "do": "open"}, b""), *[({"tunnel": 1, "do": "data"}, b"x" * (WINDOW // 4))] * 5],
        [({"tunnel": number, "do": "open"}, b"") for number in range(CONNECTIONS + 1)],
    ],
)
async def test_a_guest_that_breaks_the_rules_of_connections(frames: list[tuple[Message, bytes]]) -> None:
    async def nobody(stream: object) -> None: ...

    tunnel = Tunnel(Channel(_Wire()), nobody)
    with pytest.raises(ProtocolBroken):
        for message, data in frames:
            tunnel.received(message, data)
    tunnel.ended()
