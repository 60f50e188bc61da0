"""The system-call filter: a classic BPF program, built from tables, for x86_64 and aarch64.

It refuses what code under test never needs and what attacks on the kernel start with. The same program is given to
bubblewrap and, through the guest, laid over the container engine's own filter. A call of another architecture is
refused as a whole. Left out: arguments that a filter can't see (paths) and everything that namespaces already close.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

from sandbox.base import SandboxUnavailable

# name -> (x86_64, aarch64); None where the architecture doesn't have it
DENIED: dict[str, tuple[int, int | None]] = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "kcmp": (312, 272),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
}
TRACING: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
}

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
NAMESPACE_FLAGS = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
# Unix, IPv4, IPv6, netlink. Not vsock: it reaches the host of a virtual machine from any network namespace.
SOCKET_FAMILIES = (1, 2, 10, 16)
# family -> protocols. Of IP: whatever the type means, TCP, UDP; not the rare ones (SCTP, DCCP, L2TP, MPTCP ...), whose
# code is reached so seldom that it is full of faults. Of netlink: routes, which libc asks for interfaces; not
# the firewall, IPsec, crypto and generic ones.
PROTOCOLS = {2: (0, 6, 17), 10: (0, 6, 17), 16: (0,)}
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # typing into the terminal of somebody outside

_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data; both architectures are little-endian


@dataclass(frozen=True, slots=True)
class _Machine:
    audit: int
    column: int
    clone: int
    clone3: int
    socket: int
    ioctl: int
    x32: bool


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 0, 56, 435, 41, 16, True),
    "aarch64": _Machine(0xC00000B7, 1, 220, 435, 198, 29, False),
}


def program(*, allow_tracing: bool = False, machine: str | None = None) -> bytes:
    """The filter as an array of `struct sock_filter`. Raises SandboxUnavailable for other architectures."""
    name = machine or platform.machine()
    found = _MACHINES.get(name)
    if found is None:
        raise SandboxUnavailable(
            f"There is no system-call filter for the architecture {name} (only for {', '.join(_MACHINES)}); "
            "run the sandbox on one of those."
        )
    refuse = _ERRNO | errno.EPERM
    tables = DENIED if allow_tracing else {**DENIED, **TRACING}
    code = [_op(_LD_ABS, _ARCH), _op(_JEQ, found.audit, 1, 0), _op(_RET, refuse), _op(_LD_ABS, _NR)]
    if found.x32:
        code += [_op(_JGE, 0x40000000, 0, 1), _op(_RET, refuse)]
    for numbers in tables.values():
        number = numbers[found.column]
        if number is not None:
            code += [_op(_JEQ, number, 0, 1), _op(_RET, refuse)]
    # libc falls back to clone, whose flags can be looked at; clone3's lie behind a pointer
    code += [_op(_JEQ, found.clone3, 0, 1), _op(_RET, _ERRNO | errno.ENOSYS)]
    clone = [_op(_LD_ABS, _ARGS), _op(_JSET, NAMESPACE_FLAGS, 0, 1), _op(_RET, refuse), _op(_RET, _ALLOW)]
    code += _when(found.clone, clone)
    code += _when(found.socket, _sockets())
    terminal = [_op(_JEQ, TIOCSTI, 1, 0), _op(_JEQ, TIOCLINUX, 0, 1), _op(_RET, refuse), _op(_RET, _ALLOW)]
    code += _when(found.ioctl, [_op(_LD_ABS, _ARGS + 8), *terminal])
    return b"".join([*code, _op(_RET, _ALLOW)])


def _sockets() -> list[bytes]:
    """For the call that makes one: its family, then its protocol."""
    block = [_op(_LD_ABS, _ARGS)]
    for family in SOCKET_FAMILIES:
        allowed = PROTOCOLS.get(family)
        if allowed is None:
            block += _when(family, [_op(_RET, _ALLOW)])
            continue
        protocols = [_op(_JEQ, protocol, len(allowed) - i, 0) for i, protocol in enumerate(allowed)]
        other = _op(_RET, _ERRNO | errno.EPROTONOSUPPORT)
        block += _when(family, [_op(_LD_ABS, _ARGS + 16), *protocols, other, _op(_RET, _ALLOW)])
    return [*block, _op(_RET, _ERRNO | errno.EAFNOSUPPORT)]


def _when(number: int, block: list[bytes]) -> list[bytes]:
    """`block` (which ends with a return on every way) for one call, else what follows."""
    return [_op(_JEQ, number, 0, len(block)), *block]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
