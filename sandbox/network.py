"""What a sandbox with the network `registries` may reach: package indexes, those of this machine's configuration too.

Data and pure decisions: which `host:port` is allowed, which addresses never are, and what a package manager inside
has to be told. Left out: the proxy that asks here (`sandbox.network_proxy`) and the way to it
(`sandbox.network_tunnel`).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.network_settings import HostSettings, usual_indexes

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where packages come from when nobody configured anything, besides what pip and npm say of themselves
# (`network_settings.usual_indexes`). Read-only services each, or with an account only.
INDEXES: Mapping[str, tuple[str, ...]] = {
    "Node": ("registry.yarnpkg.com",),
    "Go": ("proxy.golang.org", "sum.golang.org"),
    "Rust": ("index.crates.io", "static.crates.io"),
    "Java": ("repo.maven.apache.org", "repo1.maven.org", "plugins.gradle.org"),
    "Ruby": ("rubygems.org", "index.rubygems.org"),
    "PHP": ("repo.packagist.org",),
}

# Nothing there is a package index, whatever a configuration says: this network, link-local (where clouds answer
# questions about a machine's secrets), multicast, reserved; the last are clouds' own such services elsewhere.
NEVER = (
    "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "fe80::/10", "ff00::/8",
    "100.100.100.200/32", "168.63.129.16/32", "192.0.0.0/24", "fd00:ec2::/32",
)  # fmt: skip
# Private, loopback, shared, benchmarking, and addresses that wrap others: only for what the host's configuration names.
PRIVATE = (
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "::1/128", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2002::/16", "fc00::/7",
    "fec0::/10",
)  # fmt: skip
_NEVER = tuple(ipaddress.ip_network(text) for text in NEVER)
_PRIVATE = tuple(ipaddress.ip_network(text) for text in PRIVATE)
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class AllowList:
    """`host:port` pairs. A private address is fine only for those that this machine's configuration names."""

    places: Mapping[tuple[str, int], bool]  # True: named by this machine's configuration

    def has(self, host: str, port: int) -> bool:
        return (host, port) in self.places

    def refusal(self, host: str, port: int, addresses: Iterable[str], neighbours: Iterable[IPNetwork]) -> str | None:
        """Why none of what the name resolved to may be connected to; None when all of it may.

        One bad address among good ones refuses the name: nobody's index resolves like that.
        """
        named = self.places[host, port]
        near = tuple(neighbours)
        for text in addresses:
            address = plain(text)
            if address is None or _lies_in(address, _NEVER):
                return f"{host} resolves to {text}, which no package index has"
            if not named and (_lies_in(address, _PRIVATE) or _lies_in(address, near) or is_own(address)):
                return f"{host} resolves to {text}, an address of this machine or a private network"
        return None


def allow_list(settings: HostSettings) -> AllowList:
    """The public indexes and those that the host's own package managers are configured for."""
    known = {(host, 443): False for hosts in INDEXES.values() for host in hosts}
    return AllowList({**known, **dict.fromkeys(usual_indexes(), False), **dict.fromkeys(settings.places, True)})


def normal_host(text: str) -> str | None:
    """A host's name in lower case without the final dot, or an address without brackets; None for neither."""
    name = text.lower().removesuffix(".")
    if name.startswith("[") and name.endswith("]"):
        address = plain(name[1:-1])
        return str(address) if isinstance(address, ipaddress.IPv6Address) else None
    return name if _HOST.fullmatch(name) else None


def plain(text: str) -> Address | None:
    """An address, out of its IPv4-in-IPv6 wrapping; None for what is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _lies_in(address: Address, networks: Iterable[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def is_own(address: Address) -> bool:
    """Whether this machine has the address: it can be bound to."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def on_link_networks(proc: Path = Path("/proc/net")) -> tuple[IPNetwork, ...]:
    """The networks that this machine is a part of, whatever range they are from: no index is a neighbour."""
    return (*_on_link_4(proc / "route"), *_on_link_6(proc / "ipv6_route"))


def _on_link_4(table: Path) -> Iterable[IPNetwork]:
    for fields in _rows(table)[1:]:
        target, gateway, mask = (struct.pack("<I", int(fields[column], 16)) for column in (1, 2, 7))
        if not any(gateway) and any(mask):
            yield ipaddress.ip_network((target, int.from_bytes(mask).bit_count()))


def _on_link_6(table: Path) -> Iterable[IPNetwork]:
    for fields in _rows(table):
        bits = int(fields[1], 16)
        if bits and not int(fields[4], 16):
            yield ipaddress.IPv6Network((bytes.fromhex(fields[0]), bits), strict=False)


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return []
