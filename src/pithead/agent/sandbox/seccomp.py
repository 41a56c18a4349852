"""Which system calls a job may not make, as a filter for the kernel.

A list of what is refused, not of what is allowed: programs of all kinds are to run unchanged, and namespaces do the rest.
Refused is what reaches the kernel itself, other processes, or a way to new privileges. The list follows those of Flatpak
(`common/flatpak-run.c`, `setup_seccomp`) and of Docker's default profile. The numbers are those of the kernel's
`arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`.

The program is classic BPF over `struct seccomp_data` (seccomp(2)): the number at 0, the architecture at 4, the six
arguments from 16 on, of which the lower half is looked at: what is compared are C ints.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

#: `AUDIT_ARCH_…` of linux/audit.h, by what uname calls the machine.
ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

#: Refused with EPERM: name, number on x86_64, on aarch64 (`None`: there is no such call).
REFUSED: Final[tuple[tuple[str, int | None, int | None], ...]] = (
    # the kernel and the machine
    ("acct", 163, 89), ("bpf", 321, 280), ("delete_module", 176, 106), ("finit_module", 313, 273),
    ("init_module", 175, 105), ("ioperm", 173, None), ("iopl", 172, None), ("kexec_file_load", 320, 294),
    ("kexec_load", 246, 104), ("lookup_dcookie", 212, 18), ("nfsservctl", 180, 42), ("perf_event_open", 298, 241),
    ("quotactl", 179, 60), ("quotactl_fd", 443, 443), ("reboot", 169, 142), ("swapoff", 168, 225),
    ("swapon", 167, 224), ("syslog", 103, 116), ("uselib", 134, None), ("vhangup", 153, 58),
    # keys, which namespaces do not part
    ("add_key", 248, 217), ("keyctl", 250, 219), ("request_key", 249, 218),
    # other processes
    ("kcmp", 312, 272), ("pidfd_getfd", 438, 438), ("process_vm_readv", 310, 270), ("process_vm_writev", 311, 271),
    ("ptrace", 101, 117), ("userfaultfd", 323, 282),
    # mounts and namespaces
    ("chroot", 161, 51), ("fanotify_init", 300, 262), ("fsconfig", 431, 431), ("fsmount", 432, 432),
    ("fsopen", 430, 430), ("fspick", 433, 433), ("mount", 165, 40), ("mount_setattr", 442, 442),
    ("move_mount", 429, 429), ("name_to_handle_at", 303, 264), ("open_by_handle_at", 304, 265),
    ("open_tree", 428, 428), ("pivot_root", 155, 41), ("setns", 308, 268), ("umount2", 166, 39),
    ("unshare", 272, 97),
    # memory that nobody sees who counts
    ("memfd_secret", 447, 447), ("shmget", 29, 194), ("vmsplice", 278, 75),
)  # fmt: skip

#: Refused with ENOSYS: programs then go the older way. `clone3` hides its flags from filters; io_uring passes by them.
ABSENT: Final[tuple[tuple[str, int, int], ...]] = (
    ("clone3", 435, 435), ("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426), ("io_uring_register", 427, 427),
)  # fmt: skip

#: Memory that no process has mapped: only a memory cgroup counts it.
UNCOUNTED: Final = ("memfd_create", 319, 279)

_CLONE: Final = (56, 220)
_IOCTL: Final = (16, 29)
_SOCKET: Final = (41, 198)
_PERSONALITY: Final = (135, 92)
#: Every CLONE_NEW… of linux/sched.h, of which TIME shares its bit with the signal and is for clone3 alone.
_NEW_NAMESPACES: Final = 0x7E020000
#: Puts keystrokes into the terminal, and selects and pastes there.
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
#: unix, inet, inet6, netlink; the two in the middle reach nothing where there is no network.
_FAMILIES: Final = (1, 2, 10, 16)

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _EQUALS, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4
#: Calls of the x32 ABI, which have numbers of their own.
_X32: Final = 0x40000000


class UnknownMachine(Exception):
    """There is no list of system calls for this processor; the message names it."""


def program(machine: str | None = None, *, memory_is_counted: bool) -> bytes:
    """The filter, as `bwrap --seccomp` reads it. Raises `UnknownMachine`.

    `machine`: as uname has it; `None` is this one. `memory_is_counted`: a cgroup counts all memory of the job, so that
    files in memory need not be refused.
    """
    machine = machine or os.uname().machine
    if machine not in ARCHITECTURES:
        raise UnknownMachine(f"there is no list of system calls for {machine} processors")
    column = list(ARCHITECTURES).index(machine)
    uncounted = () if memory_is_counted else (UNCOUNTED,)
    filtered = [
        _load(_ARCHITECTURE),
        _jump(_EQUALS, ARCHITECTURES[machine], yes=1),
        _answer(_KILL),
        _load(_NUMBER),
    ]
    if machine == "x86_64":
        filtered += [_jump(_AT_LEAST, _X32, no=1), _refuse(errno.ENOSYS)]
    for names, error in ((REFUSED, errno.EPERM), (ABSENT, errno.ENOSYS), (uncounted, errno.EPERM)):
        for _, *numbers in names:
            number = numbers[column]
            if number is not None:
                filtered += [_jump(_EQUALS, number, no=1), _refuse(error)]
    filtered += _looked_at(_CLONE[column], 0, [_jump(_HAS_BITS, _NEW_NAMESPACES, no=1), _refuse(errno.EPERM)])
    for request in (_TIOCSTI, _TIOCLINUX):
        filtered += _looked_at(_IOCTL[column], 1, [_jump(_EQUALS, request, no=1), _refuse(errno.EPERM)])
    filtered += _looked_at(_SOCKET[column], 0, _only(_FAMILIES, errno.EAFNOSUPPORT))
    # Asking which one it is, and the plain one; others switch off the protections of memory.
    filtered += _looked_at(_PERSONALITY[column], 0, _only((0, 0xFFFFFFFF), errno.EPERM))
    return b"".join([*filtered, _answer(_ALLOW)])


def _looked_at(number: int, argument: int, rule: list[bytes]) -> list[bytes]:
    """Apply the rule to that argument of that call; whatever it lets pass goes on with the number loaded again."""
    return [
        _jump(_EQUALS, number, no=len(rule) + 2),
        _load(16 + 8 * argument),
        *rule,
        _load(_NUMBER),
    ]


def _only(values: tuple[int, ...], error: int) -> list[bytes]:
    last = len(values)
    return [*(_jump(_EQUALS, value, yes=last - i) for i, value in enumerate(values)), _refuse(error)]


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(test: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", test, yes, no, value)


def _answer(action: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, action)


def _refuse(error: int) -> bytes:
    return _answer(_ERRNO | error)
