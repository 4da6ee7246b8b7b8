"""The sandbox of a process that decodes untrusted images, entered before the first image.

After its imports the process needs only memory, its connection and its shared files. On Linux it permanently gives up:
new privileges (prctl), all files, TCP ports and signals to other processes (Landlock), and all system calls except
those in `_ALLOWED` (seccomp), so that it can open no file or socket and reach no other process. Each layer is applied
if the kernel supports it. Resource limits apply everywhere.

Sources: landlock(7), seccomp(2), linux/landlock.h, linux/filter.h, asm/unistd_64.h, asm-generic/unistd.h.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from contextlib import suppress
from typing import Any

_PR_SET_NO_NEW_PRIVS = 38

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same number on every architecture
_RULESET_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of access rights by the Landlock version that added the last of them. Each right is a bit."""
_NETWORK_RIGHTS, _SCOPES = 0b11, 0b11
"""Binding and connecting TCP sockets (since version 4); abstract UNIX sockets and signals (since version 6)."""

_SET_MODE_FILTER = 1
_FILTER_FLAGS = 0b101
"""All threads, without the speculation barrier, which makes processes several percent slower on older kernels."""
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data."""
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_LAST_KNOWN_CALL = 450
"""Later system calls fail with ENOSYS, as on an older kernel, so that a newer C library uses its fallback."""
_PROT_EXEC = 4
_FCNTL_COMMANDS = (1, 3, 1030)
"""F_GETFD, F_GETFL and F_DUPFD_CLOEXEC. Other commands can send signals (F_SETOWN)."""

_X86_64 = {
    "read": 0, "write": 1, "close": 3, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28,
    "nanosleep": 35, "getitimer": 36, "setitimer": 38, "getpid": 39, "exit": 60, "fcntl": 72, "ftruncate": 77,
    "sigaltstack": 131, "gettid": 186, "futex": 202, "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231,
    "tgkill": 234, "getrandom": 318,
}  # fmt: skip
_AARCH64 = {
    "read": 63, "write": 64, "close": 57, "lseek": 62, "mmap": 222, "mprotect": 226, "munmap": 215, "brk": 214,
    "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "sched_yield": 124, "mremap": 216, "madvise": 233,
    "nanosleep": 101, "getitimer": 102, "setitimer": 103, "getpid": 172, "exit": 93, "fcntl": 25, "ftruncate": 46,
    "sigaltstack": 132, "gettid": 178, "futex": 98, "clock_gettime": 113, "clock_nanosleep": 115, "exit_group": 94,
    "tgkill": 131, "getrandom": 278,
}  # fmt: skip
_ALLOWED = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
"""By machine: its number in struct seccomp_data, and the system calls that a decoder needs. None takes a path, a
network address or another process. `mmap`, `mprotect`, `fcntl` and `tgkill` are allowed only with certain arguments."""


def enter(memory_bytes: int, file_bytes: int) -> str:
    """Apply every layer that this system supports. Return the names of the applied layers, separated by ", ".

    `memory_bytes` limits the address space, `file_bytes` the size of a shared file. Everything that the process uses
    must be imported or open already.
    """
    limit_resources(memory_bytes, file_bytes)
    layers = ["resource limits"]
    if sys.platform == "linux" and forbid_privileges():
        version = restrict_files()
        layers += ["no new privileges", *([f"Landlock {version}"] if version else [])]
        layers += ["seccomp"] if restrict_system_calls() else []
    return ", ".join(layers)


def available() -> str:
    """Return the layers that `enter` would apply on this system, without applying them."""
    layers = ["resource limits"]
    if sys.platform == "linux":
        version = _landlock_version()
        layers += ["no new privileges", *([f"Landlock {version}"] if version else [])]
        layers += ["seccomp"] if platform.machine() in _ALLOWED and _has_seccomp() else []
    return ", ".join(layers)


def limit_resources(memory_bytes: int, file_bytes: int) -> None:
    """Limit address space, open files, new processes, file sizes and core dumps, as far as the system supports it."""
    limits = {"AS": memory_bytes, "FSIZE": file_bytes, "NOFILE": 64, "NPROC": 0, "CORE": 0}
    for name, bound in limits.items():
        with suppress(AttributeError, OSError, ValueError):  # not supported, or already lower
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (bound, bound))


def forbid_privileges() -> bool:
    """Give up the privileges of set-user-id programs, which Landlock and seccomp require."""
    return _library().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def restrict_files() -> int:
    """Give up files that are not open yet, TCP and signals to other processes. Return the Landlock version, or 0."""
    version = _landlock_version()
    if version == 0:
        return 0
    rights = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    attributes = struct.pack("=Q", (1 << rights) - 1)
    attributes += struct.pack("=Q", _NETWORK_RIGHTS) if version >= 4 else b""
    attributes += struct.pack("=Q", _SCOPES) if version >= 6 else b""
    library = _library()
    ruleset = library.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return 0
    restricted = library.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return version if restricted else 0


def restrict_system_calls() -> bool:
    """Give up all system calls except those of a decoder; others fail with EPERM. Return False if not supported."""
    if platform.machine() not in _ALLOWED or sys.maxsize < 1 << 32:
        return False
    program = _filter(*_ALLOWED[platform.machine()], os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions and their address.
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    library = _library()
    if library.syscall(_seccomp_call(), _SET_MODE_FILTER, _FILTER_FLAGS, header) == 0:
        return True
    return bool(library.syscall(_seccomp_call(), _SET_MODE_FILTER, 0, header) == 0)  # before Linux 4.17


def _filter(architecture: int, calls: dict[str, int], process: int) -> bytes:
    """Return the BPF program: 8 bytes per instruction, jumps relative to the next instruction."""
    forbidden = _ERROR | errno.EPERM
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    checks = {
        "mmap": [(_LOAD, 0, 0, _ARGUMENTS + 16), (_ANY_BIT, 0, 1, _PROT_EXEC), (_RETURN, 0, 0, forbidden)],
        "mprotect": [(_LOAD, 0, 0, _ARGUMENTS + 16), (_ANY_BIT, 0, 1, _PROT_EXEC), (_RETURN, 0, 0, forbidden)],
        "tgkill": [(_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 1, 0, process), (_RETURN, 0, 0, forbidden)],
        "fcntl": [
            (_LOAD, 0, 0, _ARGUMENTS + 8),
            *((_EQUAL, len(_FCNTL_COMMANDS) - place, 0, command) for place, command in enumerate(_FCNTL_COMMANDS)),
            (_RETURN, 0, 0, forbidden),
        ],
    }
    for name, number in calls.items():
        checked = [*checks.get(name, []), (_RETURN, 0, 0, _ALLOW)]
        program += [(_EQUAL, 0, len(checked), number), *checked]
    program += [
        (_GREATER, 0, 1, _LAST_KNOWN_CALL),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_RETURN, 0, 0, forbidden),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _landlock_version() -> int:
    return max(0, _library().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _RULESET_VERSION))


def _has_seccomp() -> bool:
    """Whether the kernel supports filters: then a null pointer as the program fails with EFAULT."""
    library = _library()
    return library.syscall(_seccomp_call(), _SET_MODE_FILTER, 0, None) < 0 and ctypes.get_errno() == errno.EFAULT


def _seccomp_call() -> int:
    return {"x86_64": 317, "aarch64": 277}[platform.machine()]


def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)
