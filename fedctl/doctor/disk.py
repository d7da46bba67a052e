"""The home as files: whose they are, what they lie on, and what was left behind there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedctl.doctor.report import Found, Mend, broken, failure, note, ok, several, warning
from fedctl.errors import Denied, FedctlError
from fedctl.model.shown import size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fedctl.doctor.patient import Patient

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afs", "afpfs", "ceph", "glusterfs", "lustre", "gpfs",
     "beegfs", "webdav", "davfs", "ncpfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.glusterfs",
     "fuse.davfs2", "fuse.smbnetfs", "osxfuse", "macfuse"}
)  # fmt: skip
SHARED = frozenset({"9p", "virtiofs", "vboxsf", "prl_fs", "drvfs", "fuse.grpcfuse", "fuse.osxfs", "fuse"})
"""What a virtual machine sees of its host's files."""
FLEETING = frozenset({"tmpfs", "ramfs", "devtmpfs"})
LOW_FACTOR = 4
"""Free space is low below so many watermarks: writes are refused below one."""
YOUNG_S = 60.0
_OCTAL = re.compile(r"\\([0-7]{3})")


def config(patient: Patient) -> Found:
    """The config files are right."""
    from fedctl.config import config_path

    error = patient.config_error
    path = config_path(patient.settings)
    if isinstance(error, Denied):
        return broken(error)
    if error is not None:
        return failure(error.message + (f" ({error.hint})" if error.hint else ""), f"${{EDITOR:-vi}} {_quoted(path)}")
    said = [key for key, origin in patient.settings.origins.items() if origin.startswith("file ")]
    if not path.exists():
        return ok("no config file: every setting has its default" if not said else f"{several(len(said), 'setting')}")
    return ok(f"{path}: {several(len(said), 'setting')} in use", path=str(path), settings=said)


def home(patient: Patient) -> Found | None:
    """The home is there, ours, and nobody else's to look into."""
    if patient.remote:
        return None
    path = patient.home
    if not path.exists():
        return note(f"{path} is not there yet: the first write makes it", patient.command("init"), path=str(path))
    state = path.stat()
    figures: dict[str, Any] = {"path": str(path), "mode": f"{stat.S_IMODE(state.st_mode):04o}", "uid": state.st_uid}
    if state.st_uid != os.getuid():
        told = f"{path} is another user's (uid {state.st_uid}), and this one is {os.getuid()}"
        how = warning if patient.can_look else failure  # root may look, and would leave files that the user cannot use
        return how(told, f"sudo -u '#{state.st_uid}' {patient.command('doctor')}", **figures)
    if state.st_mode & 0o077:
        chmod = f"chmod 700 {_quoted(path)}"
        return warning(f"{path} may be looked into by others ({stat.filemode(state.st_mode)})", chmod,
                       Mend(chmod, lambda: _chmod([(path, 0o700)])), **figures)  # fmt: skip
    if not os.access(path, os.W_OK | os.X_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        fix = "findmnt -T " if read_only else "chmod u+wx "
        why = "its file system is mounted read-only" if read_only else "it cannot be written"
        return warning(f"{path}: {why}; commands that only read work", f"{fix}{_quoted(path)}", **figures)
    return ok(f"{path}, mode {figures['mode']}", **figures)


def permissions(patient: Patient) -> Found | None:
    """Stores, keys and logs are their owner's alone."""
    if not patient.can_look:
        return None
    from fedctl.operations.store import lax

    found = [(path, 0o700 if stat.S_ISDIR(path.lstat().st_mode) else 0o600) for path in lax(patient.home)]
    if not found:
        return ok("stores, keys and logs are open to their owner alone")
    names = ", ".join(str(path.relative_to(patient.home)) for path, _ in found[:3])
    more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""  # noqa: PLR2004  as many as are named
    keys = any("keys" in path.relative_to(patient.home).parts for path, _ in found)
    told = f"{names}{more} may be opened by others"
    fix = f"chmod -R go-rwx {_quoted(patient.home)}"
    mend = Mend(f"take the rights of others from {several(len(found), 'file')}", lambda: _chmod(found))
    return (failure if keys else warning)(told, fix, mend, files=[str(path) for path, _ in found])


def _chmod(wanted: list[tuple[Path, int]]) -> str:
    for path, mode in wanted:
        # Never through a link: what lay there when it was looked at may have been exchanged for one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise Denied(f"{path} is another user's")
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
    return "made the owner's alone: " + (str(wanted[0][0]) if len(wanted) == 1 else f"{len(wanted):,} files")


# -- what it lies on -------------------------------------------------------------------------------------------------


class Mount(NamedTuple):
    """A mounted file system: where, and of which kind."""

    point: str
    kind: str


def file_system(patient: Patient) -> Found | None:
    """Locks and shared memory work on the file system, and it survives a restart."""
    if patient.remote:
        return None
    from fedctl.agent.folder import parent_of

    found = mounts()
    mount = holder(os.path.realpath(patient.home), found)
    if mount is None:
        return note("which file system the home lies on cannot be told here")
    kind, told = mount.kind, f"{mount.kind} ({mount.point})"
    move = (
        f"mv {_quoted(patient.home)} /a/local/disk && export FEDCTL_HOME=/a/local/disk/{shlex.quote(patient.home.name)}"
    )
    if kind in NETWORK:
        return failure(f"{told} goes over a network: locks and shared memory are not safe there",
                       move, kind=kind, mount=mount.point)  # fmt: skip
    if kind in SHARED or kind.startswith("fuse."):
        return warning(f"{told} passes another system's files on: its locks may not hold", move, kind=kind,
                       mount=mount.point)  # fmt: skip
    if kind in FLEETING:
        return warning(f"{told} is memory: all is gone when the machine restarts", move, kind=kind, mount=mount.point)
    if kind == "overlay":
        return note(f"{told} is a container's own layer, and goes with the container: mount a volume for the home",
                    kind=kind, mount=mount.point)  # fmt: skip
    parent = parent_of(patient.environ)
    agents = holder(os.path.realpath(parent), found)
    if agents is not None and agents.kind in NETWORK:
        name = "XDG_RUNTIME_DIR" if str(parent) == patient.environ.get("XDG_RUNTIME_DIR") else "TMPDIR"
        return warning(f"{told}; agents have their sockets on {agents.kind} ({parent}): locks are not safe there",
                       f"export {name}=/a/local/folder", kind=kind, mount=mount.point)  # fmt: skip
    return ok(told, kind=kind, mount=mount.point)


def mounts() -> list[Mount]:
    """Return what is mounted, as far as the system tells."""
    try:
        if sys.platform == "linux":
            return from_mountinfo(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
        told = subprocess.run(["/sbin/mount"], capture_output=True, check=False, timeout=5).stdout
        return from_mount(told.decode("utf-8", "surrogateescape"))
    except (OSError, subprocess.SubprocessError):
        return []


def from_mountinfo(text: str) -> list[Mount]:
    """Read Linux's `/proc/self/mountinfo` (proc(5)): the fifth field is the point, the kind comes after ` - `."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        if separator and len(fields := before.split(" ")) > 4 and after:  # noqa: PLR2004  see above
            point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
            found.append(Mount(point, after.split(" ")[0]))
    return found


def from_mount(text: str) -> list[Mount]:
    """Read what `mount` says on macOS: `/dev/disk3s1 on /System/Volumes/Data (apfs, local, journaled)`."""
    matches = (re.fullmatch(r".+? on (.+) \(([^,)]+).*\)", line) for line in text.splitlines())
    return [Mount(match[1], match[2]) for match in matches if match]


def holder(place: str, found: Iterable[Mount]) -> Mount | None:
    """Return the mount that a path lies on: the longest point above it, the last of those that are as long."""
    best: Mount | None = None
    for mount in found:
        inside = mount.point in ("/", place) or place.startswith(f"{mount.point}/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def space(patient: Patient) -> Found | None:
    """The disk has room, and the store its reserve."""
    if patient.remote:
        return None
    from fedctl.store.room import RESERVE_NAME, Space, size_bytes

    place = patient.home
    while not place.exists():
        place = place.parent
    left = Space.of(os.statvfs(place))
    figures: dict[str, Any] = {"free_bytes": left.free_bytes, "watermark_bytes": left.watermark_bytes,
               "reserve_bytes": size_bytes(str(place / RESERVE_NAME))}  # fmt: skip
    fix = f"df -h {_quoted(place)}; {patient.command('retention prune --dry-run')}"
    told = f"{size(left.free_bytes)} free, writes stop below {size(left.watermark_bytes)}"
    if left.free_bytes < left.watermark_bytes:
        return failure(f"{told}: the store is read-only now", fix, **figures)
    if left.free_bytes < left.watermark_bytes * LOW_FACTOR:
        return warning(f"{told}: that is little", fix, **figures)
    return ok(told, **figures)


# -- what was left behind --------------------------------------------------------------------------------------------


def leftovers(patient: Patient) -> Found | None:
    """Nothing lies about that a process left which died."""
    if patient.remote:
        return None
    found = list(_left(patient))
    if not found:
        return ok("nothing was left behind by what died")
    names = ", ".join(str(path) for path in found[:3]) + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")  # noqa: PLR2004  # fmt: skip
    mend = Mend(f"remove {several(len(found), 'leftover')}", lambda: _remove(_left(patient)))
    return warning(f"left behind by what died: {names}", patient.command("doctor --fix"), mend,
                   files=[str(path) for path in found])  # fmt: skip


def _left(patient: Patient) -> Iterator[Path]:
    """Yield what has no maker any more; each is held while it is yielded, so that nobody takes it for his own then."""
    from fedctl.agent.folder import abandoned, parents
    from fedctl.operations.backup import dead_partials
    from fedctl.operations.store import unfinished

    now_s = patient.clock.now_ms() / 1000
    for parent in parents(patient.environ):
        # A young one may be about to be held by its agent.
        yield from (path for path in abandoned(parent) if now_s - path.stat().st_mtime > YOUNG_S)
    if patient.can_look:
        yield from unfinished(patient.home, patient.clock.now_ms())
        yield from dead_partials(patient.home)


def _remove(left: Iterator[Path]) -> str:
    count = 0
    for count, path in enumerate(left, 1):  # noqa: B007  counted to the end
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return f"{several(count, 'leftover')} removed"


def hub_files(patient: Patient) -> Found | None:
    """Where no hub runs none has left its socket, and the log is no larger than is of use."""
    from fedctl.bootstrap import hub_is_running
    from fedctl.client.address import INFO_NAME, hub_socket

    if not patient.can_look:
        return None
    try:
        paths = [hub_socket(patient.home), patient.home / INFO_NAME]
    except FedctlError as error:
        return broken(error)
    stale = [] if hub_is_running(patient.home) else [path for path in paths if path.exists()]
    if stale:
        names = " and ".join(path.name for path in stale)
        mend = Mend(f"remove {names}", lambda: _remove_stale(patient.home, stale))
        return warning(f"{names}: left by a hub that was killed", f"rm -f {' '.join(map(_quoted, stale))}", mend,
                       files=[str(path) for path in stale])  # fmt: skip
    log = patient.home / "hub.log"
    log_bytes = log.stat().st_size if log.exists() else 0
    if log_bytes > LOG_MAX_BYTES:
        return warning(f"hub.log has {size(log_bytes)}", f": > {_quoted(log)}", None, log_bytes=log_bytes)
    return ok(f"no stale socket, hub.log has {size(log_bytes)}" if log_bytes else "no stale socket",
              log_bytes=log_bytes)  # fmt: skip


LOG_MAX_BYTES = 100 << 20


def _remove_stale(home: Path, stale: list[Path]) -> str:
    from fedctl.client.address import LOCK_NAME
    from fedctl.store.lock import FileLock

    lock = FileLock(home / LOCK_NAME, 0, "a hub has just been started")
    lock.acquire()  # a hub that starts now would bind the socket that goes
    try:
        for path in stale:
            path.unlink(missing_ok=True)
    finally:
        lock.close()
    return f"{' and '.join(path.name for path in stale)} removed"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
