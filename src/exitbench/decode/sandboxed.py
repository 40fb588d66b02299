"""The inside of `sandbox`: run by path in a process of its own, with nothing but the standard library.

It reads its orders from standard input, gives up what it can, runs candidate and tests in one namespace, and only then
writes a verdict that carries the secret it was told, to a descriptor that neither of them is given.
"""

import ctypes
import json
import os
import resource
import sys
import types

__all__: list[str] = []

_NOBODY = 65534
_MEBIBYTE = 2**20
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_KEEP_CAPABILITIES = 8
_MAY_READ = 1 << 2
"""CAP_DAC_READ_SEARCH: the interpreter's own files may lie where only root can read."""


def _leave_network(libc: ctypes.CDLL) -> None:
    """Go where there is no network, where the kernel allows; `os.unshare` came with Python 3.12."""
    if sys.platform == "linux":
        libc.unshare(_NEW_NETWORK | (_NEW_USER if os.geteuid() else 0))


def _leave_root(libc: ctypes.CDLL) -> None:
    """Be nobody, able to read and no more: limits on processes do not bind root."""
    if os.geteuid():
        return
    if sys.platform != "linux":
        raise OSError("root can only be given up on Linux; run this as another user")
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    # Effective, permitted and inheritable, of the lower and of the upper 32 capabilities.
    if libc.capset(header, (ctypes.c_uint32 * 6)(_MAY_READ, _MAY_READ, 0, 0, 0, 0)):
        raise OSError("root's capabilities cannot be given up")


def _limit(cpu_s: int) -> None:
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, 1024 * _MEBIBYTE),
        (resource.RLIMIT_FSIZE, 16 * _MEBIBYTE),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _main() -> None:
    orders = json.load(sys.stdin)
    verdict = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.environ.clear()
    dumps, write, leave = json.dumps, os.write, os._exit
    outcome, reason = "refused", ""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        _leave_network(libc)
        _leave_root(libc)
        _limit(orders["cpu_s"])
        outcome = "failed"
        module = types.ModuleType("candidate")
        sys.modules["candidate"] = module
        for name in ("code", "tests"):
            exec(compile(orders[name], name, "exec"), module.__dict__)  # noqa: S102 - what this process is for
        outcome = "passed"
    except BaseException as error:
        reason = ascii(f"{type(error).__name__}: {error}")[1:-1][:200]
    write(verdict, dumps({"secret": orders["secret"], "outcome": outcome, "reason": reason}).encode())
    leave(0)


if __name__ == "__main__":
    _main()
