"""The walls of the sandbox, put up from inside: what runs between the grader and the code it tests.

``code`` hands this file's text to ``python -I -S -c`` in a process group of its own, so it imports
the standard library only and finds nothing of Conclave. It sets the walls up, forks, sets the
limits in the grandchild and makes that one ``harness``; then it waits. The child in between is what
``os.kill(os.getppid(), 9)`` hits; a status other than 0 then says that somebody was killed.

With ``isolated``, ``unshare`` has made this the first process of new namespaces. The file system
then is an empty one with the interpreter's folders and the system's libraries in it, read-only,
and a small writable ``/tmp``; there is no network, no other process to see, and all are killed
with this one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC = 2, 4, 4096, 16384
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SYS_MOUNT_SETATTR = 442  # the same on every architecture; the C library may be too old to know it
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
DEVICES = ("null", "zero", "random", "urandom")
N_OPEN_FILES = 64


def main(settings: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # when memory runs out, the kernel is to end this first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if settings["isolated"]:
        enter_empty_root(settings)
    # Two of us: signals to the first process of a namespace are lost, and code that kills its
    # parent is to be noticed, not to be shrugged off.
    status = wait_for(lambda: wait_for(lambda: become_harness(settings)))
    os._exit(0 if status == 0 else 1)


def wait_for(work: Callable[[], object]) -> int:
    """Do it in a child; the child's status as ``os.waitpid`` gives it."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        work()
    except OSError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(1)
    os._exit(0)


def enter_empty_root(settings: dict[str, Any]) -> None:
    """Mounts of this process's own namespace: nobody else sees them, and they end with it."""
    root = Path(settings["folder"])
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=1k,mode=755")
    for name in settings["readable"]:
        source = Path(name)
        target = root / name.lstrip("/")
        if target.exists():
            continue  # inside of a folder that is there already
        if source.is_symlink():  # /lib is one to usr/lib on many systems
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir(parents=True)
            mount(name, target, None, MS_BIND | MS_REC)
            set_attributes(target, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    (root / "dev").mkdir(exist_ok=True)
    for device in DEVICES:
        (root / "dev" / device).touch()
        mount(f"/dev/{device}", root / "dev" / device, None, MS_BIND)
    (root / "tmp").mkdir()
    size = f"size={settings['tmp_bytes']},nr_inodes=1k,mode=1777"
    mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, size)
    os.chdir(root)
    check(libc().pivot_root(b".", b"."), "pivot_root")
    check(libc().umount2(b".", MNT_DETACH), "umount2")
    set_attributes(Path("/"), ATTR_RDONLY, recursive=False)
    os.chdir("/tmp")  # noqa: S108 - its own, mounted above


def become_harness(settings: dict[str, Any]) -> None:
    """Limits, then privileges, then the interpreter anew: none of this process's memory is left."""
    n_others = 0 if settings["isolated"] or settings["uid"] else n_tasks_of_user()
    for name, value in {
        "CPU": settings["cpu_s"],
        "AS": settings["memory_bytes"],
        "FSIZE": settings["file_bytes"],
        "NPROC": settings["n_processes"] + n_others,
        "NOFILE": N_OPEN_FILES,
        "CORE": 0,
    }.items():
        limit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(limit)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (lower, lower))
        except (OSError, ValueError):
            if settings["isolated"]:
                raise
            # macOS refuses RLIMIT_AS; without namespaces limits are what the system gives.
    if settings["isolated"]:
        for capability in range(64):
            libc().prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails past the last one there is
        check(libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if settings["uid"]:  # root is bound by no limit on processes, and may do too much besides
        os.setgroups([])
        os.setgid(settings["uid"])
        os.setuid(settings["uid"])
    folder = os.getcwd()  # noqa: PTH109 - a string is what the environment takes
    os.execve(  # noqa: S606 - no shell on purpose
        settings["python"],
        [settings["python"], "-I", "-S", "-B", "-X", "utf8", "-c", settings["harness"]],
        {"HOME": folder, "TMPDIR": folder},
    )


def n_tasks_of_user() -> int:
    """Processes and threads that count for RLIMIT_NPROC before the code has started any."""
    n = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid():
                n += len(list((process / "task").iterdir()))
        except OSError:
            continue  # ended meanwhile
    return n


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    result = libc().mount(
        source.encode(),
        str(target).encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    check(result, f"mount of {source} on {target}")


def set_attributes(path: Path, attributes: int, *, recursive: bool = True) -> None:
    """By mount_setattr, since a remount would have to repeat flags that are locked."""
    values = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)  # set, clear, propagation, user namespace
    result = libc().syscall(
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(str(path).encode()),
        ctypes.c_uint(AT_RECURSIVE if recursive else 0),
        ctypes.byref(values),
        ctypes.c_size_t(ctypes.sizeof(values)),
    )
    check(result, f"mount_setattr of {path}")


def check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
