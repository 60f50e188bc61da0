"""The filter's program, run by a small interpreter of classic BPF, for both architectures on any machine."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from sandbox import seccomp
from sandbox.base import SandboxUnavailable

X86, ARM = 0xC000003E, 0xC00000B7
ALLOW = 0x7FFF0000


def decide(program: bytes, arch: int, number: int, *arguments: int) -> int:
    data = struct.pack("<IIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    code = list(struct.iter_unpack("<HBBI", program))
    at, value = 0, 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            (value,) = struct.unpack_from("<I", data, k)
        elif op == 0x06:
            return int(k)
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[op]
            at += yes if holds else no


def refused(name: str) -> int:
    return 0x00050000 | getattr(errno, name)


@pytest.mark.parametrize(("machine", "arch", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_decisions(machine: str, arch: int, column: int) -> None:
    program = seccomp.program(machine=machine)
    assert len(program) // 8 < 4096, "the kernel's limit"
    read, clone, socket, ioctl = [(0, 56, 41, 16), (63, 220, 198, 29)][column]
    for name, numbers in {**seccomp.DENIED, **seccomp.TRACING}.items():
        if numbers[column] is not None:
            assert decide(program, arch, numbers[column] or 0) == refused("EPERM"), name
    assert decide(program, arch, read) == ALLOW
    assert decide(program, arch, 435) == refused("ENOSYS")
    assert decide(program, arch, clone, 17) == ALLOW
    assert decide(program, arch, clone, 0x10000000 | 17) == refused("EPERM")
    for family in range(64):
        expected = ALLOW if family in seccomp.SOCKET_FAMILIES else refused("EAFNOSUPPORT")
        assert decide(program, arch, socket, family) == expected, family
    for family, allowed in seccomp.PROTOCOLS.items():
        for protocol in range(300):
            expected = ALLOW if protocol in allowed else refused("EPROTONOSUPPORT")
            assert decide(program, arch, socket, family, 1, protocol) == expected, (family, protocol)
    assert decide(program, arch, socket, 1, 1, 99) == ALLOW, "Unix sockets have no protocols to choose from"
    assert decide(program, arch, ioctl, 0, 0x5412) == refused("EPERM")
    assert decide(program, arch, ioctl, 0, 0x541C) == refused("EPERM")
    assert decide(program, arch, ioctl, 0, 0x5413) == ALLOW
    assert decide(program, 0x40000003, read) == refused("EPERM"), "32-bit calls have other numbers"
    if machine == "x86_64":
        assert decide(program, arch, 0x40000000 | read) == refused("EPERM"), "x32 calls have other numbers"


def test_tracing_on_request() -> None:
    assert decide(seccomp.program(machine="x86_64", allow_tracing=True), X86, 101) == ALLOW
    assert decide(seccomp.program(machine="x86_64"), X86, 101) == refused("EPERM")


def test_other_architectures() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        seccomp.program(machine="riscv64")


@pytest.mark.parametrize(
    ("header", "column"),
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
)
def test_numbers_are_the_kernels(header: str, column: int) -> None:
    path = Path(header)
    if not path.is_file():
        pytest.skip(f"no {header} (package linux-libc-dev)")
    known = {name: int(number) for name, number in re.findall(r"#define __NR3?2?6?4?_(\w+)\s+(\d+)", path.read_text())}
    for name, numbers in {**seccomp.DENIED, **seccomp.TRACING}.items():
        if name in known:
            assert numbers[column] == known[name], name
    assert len({**seccomp.DENIED, **seccomp.TRACING}.keys() & known.keys()) > 30
