"""Commands that change a home, each with what may be found after it was killed: what there was, or what it makes.

`Jobs` prepares a home for each and runs it once to its end: what is to be seen in it before and after are *facts*,
lines of text. After a kill there must be the one or the other; a job that goes by parts may leave any facts that are
in either, and all that are in both. Given again, it must come to the same end, and leave no file that its first run
did not leave.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import common

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MARK = "zyxqmark"
"""In every text of the tenant that is erased."""
FILE_CALLS = ("fdatasync", "fsync", "rename", "link", "unlink", "unlinkat", "rmdir", "mkdir", "ftruncate")
CALLS_MAX = 60
OLD_SCHEMA = 4
EPISODES = 150
BATCH_LINES = 1200
"""More than one transaction of `memory store --batch` takes."""


class Job(NamedTuple):
    """A command on a home of some kind. `by_parts`: more than one transaction; `writes`: pwrite64 counts too."""

    name: str
    kind: str
    command: tuple[str, ...]
    stdin: bytes | None = None
    by_parts: bool = False
    writes: bool = False
    again: int = 0
    """The exit code of the same command after it has had its effect."""


class Seen(NamedTuple):
    """What is to be seen of a home, and which files it has."""

    facts: frozenset[str]
    files: frozenset[str]


def lines_of(mark: str, count: int) -> bytes:
    """Return episodes as JSON lines, of which each text has the mark in it."""
    made = ({"id": f"{mark}-{n}", "task": f"{mark} {n}", "output": f"{mark} text " * (n % 30), "reward": n % 10 / 10}
            for n in range(count))  # fmt: skip
    return "".join(json.dumps(one) + "\n" for one in made).encode()


def said(home: Path, *arguments: str, stdin: bytes | None = None) -> Any:
    """Return a command's answer; end here if it fails."""
    done = common.fedctl(home, "--hub", "off", *arguments, "--json", stdin=stdin)
    if done.returncode:
        sys.exit(f"fedctl {' '.join(arguments)}: exit {done.returncode}: {done.stderr.decode()}")
    return json.loads(done.stdout) if stdin is None and done.stdout else None


class Jobs:
    """The jobs, with a template of a home for each kind of them. `place`: the folder that their homes come into.

    A home comes into the same place each time, for backups and homes are named by whole paths.
    """

    def __init__(self, folder: Path, place: Path, *, only: Sequence[str] = ()) -> None:
        """`only`: no others, and with less in their homes: what works on a store and no more."""
        self._folder, self.place, self._only = folder / "templates", place, only
        self._templates: set[str] = set()
        self._ends: dict[str, tuple[Seen, Seen]] = {}
        self._names: dict[str, str] = {}
        self._known: list[str] = []

    @property
    def home(self) -> Path:
        """The home."""
        return self.place / "home"

    @property
    def other(self) -> Path:
        """The home that a restore makes."""
        return self.place / "other"

    @property
    def elsewhere(self) -> Path:
        """A folder for backups that is not the home's own."""
        return self.place / "elsewhere"

    @property
    def exported(self) -> Path:
        """A file for an export."""
        return self.place / "exported.jsonl"

    def all(self) -> list[Job]:
        """Return the jobs; what they name is made first."""
        self._prepare("full")
        every = self._every(self._names)
        return [one for one in every if not self._only or one.name in self._only]

    def _every(self, names: dict[str, str]) -> list[Job]:
        store = ("memory", "store", "--batch", "--jsonl")
        complete = ("pool", "complete", names["item"], "--lease-id", names["lease"], "--result", "[7]")
        agent_does = (sys.executable, "-m", "fedctl", "memory", "store", "--batch", "-q")
        restored = (names["backup"], "--yes", "--json")
        return [
            Job("first write", "none", ("memory", "store", "--id", "first", "--task", "t", "--json"), by_parts=True),
            Job("store --batch", "full", store, lines_of("batch", BATCH_LINES), by_parts=True),
            Job("push --batch", "full", ("pool", "push", "q", "--batch", "--jsonl"),
                b"".join(b'{"id": "q%d", "data": %d}\n' % (n, n) for n in range(50))),
            Job("complete, push", "full", (*complete, "--then-push", "next", '{"id": 1}', "--json")),
            Job("backup", "full", ("backup", "create", "--json")),
            Job("backup elsewhere", "full", ("backup", "create", str(self.elsewhere), "--json")),
            Job("export", "full", ("memory", "export", str(self.exported), "--json")),
            Job("config set", "full", ("config", "set", "timeout", "41s", "--json")),
            Job("backup prune", "full", ("backup", "prune", "--keep-last", "1", "--json"), by_parts=True),
            Job("restore", "full", ("restore", *restored, "--overwrite"), writes=True),
            Job("restore --to", "full", ("restore", *restored, "--to", str(self.other)), again=5),
            Job("tenant erase", "full", ("tenant", "erase", "gone", "--yes", "--json"), by_parts=True, writes=True,
                again=4),
            Job("delete --hard", "full", ("memory", "delete", "kept-7", "--hard", "--json"), by_parts=True, again=4),
            Job("retention prune", "full", ("retention", "prune", "--max-delete", "100%", "--json"), by_parts=True),
            Job("reindex", "full", ("memory", "reindex", "--json"), by_parts=True),
            Job("vacuum", "full", ("store", "vacuum", "--json"), writes=True),
            Job("migrate", "old", ("store", "migrate", "--json"), writes=True),
            Job("token revoke", "full", ("token", "revoke", names["token"], "--json")),
            Job("rotate-key", "full", ("token", "rotate-key", "--grace", "0s", "--json"), by_parts=True),
            Job("agent", "full", ("agent", "spawn", "--lifetime", "30s", "--", *agent_does), lines_of("agent", 40),
                by_parts=True, again=3),
        ]  # fmt: skip

    # -- homes -------------------------------------------------------------------------------------------------

    def lay_out(self, job: Job) -> None:
        """Put a fresh home for a job in the place."""
        for one in (self.home, self.other, self.elsewhere):
            shutil.rmtree(one, ignore_errors=True)
        self.exported.unlink(missing_ok=True)
        self._prepare(job.kind)
        template = self._folder / job.kind
        if template.exists():
            shutil.copytree(template, self.home)

    def _prepare(self, kind: str) -> None:
        if kind in self._templates:
            return
        self._templates.add(kind)
        home = self.home
        shutil.rmtree(home, ignore_errors=True)
        if kind == "full":
            self._fill(home)
        elif kind == "old":
            shutil.copytree(self._folder / "full", home)
            _make_old(home / "store.db")
        if home.exists():
            shutil.copytree(home, self._folder / kind)
            shutil.rmtree(home)

    def _fill(self, home: Path) -> None:
        said(home, "memory", "store", "--batch", stdin=lines_of("kept", EPISODES))
        said(home, "--tenant", "gone", "memory", "store", "--batch", stdin=lines_of(MARK, EPISODES))
        if self._only:
            self._names = defaultdict(str)
            return
        said(home, "memory", "reindex")
        said(home, "pool", "push", "p", '{"n": 1}')
        (item,) = said(home, "pool", "claim", "p", "--worker", "w", "--lease", "10h")
        backups = [said(home, "backup", "create")["path"] for _ in range(2)]
        # The pages elsewhere than in the backup: else its log, met with another store, makes the old one of it.
        said(home, "memory", "delete", *(f"kept-{n}" for n in range(50, 100)))
        said(home, "store", "vacuum")
        # Later than the backups: else a restore changes nothing.
        said(home, "memory", "store", "--batch", stdin=lines_of("later", EPISODES // 5))
        said(home, "--tenant", "gone", "pool", "push", "p", json.dumps(MARK))
        said(home, "retention", "set", "--max-episodes", str(EPISODES // 2))
        token = said(home, "token", "issue", "--tenant", "kept")
        # What is made anew has another name each time.
        self._known = [*(one.stem for one in (home / "keys").glob("*-*.pem")), *(Path(one).name for one in backups)]
        self._names = {"item": item["id"], "lease": item["lease_id"], "backup": backups[0], "token": token["id"]}

    # -- what is expected --------------------------------------------------------------------------------------

    def ends(self, job: Job) -> tuple[Seen, Seen]:
        """Return what there is before and after it; it is run once, and then once more for its exit code."""
        if job.name not in self._ends:
            self.lay_out(job)
            before = self.look()
            self.lay_out(job)
            done = self.run(job)
            if done.returncode:
                sys.exit(f"{job.name}: exit {done.returncode}: {done.stderr.decode()}")
            files = self.files()
            self._ends[job.name] = before, Seen(self.look().facts, files)
        return self._ends[job.name]

    def run(self, job: Job, *before: str) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end, whatever that is; `before` is what runs the interpreter."""
        command = [*before, sys.executable, "-m", "fedctl", "--hub", "off", *job.command]
        return subprocess.run(
            command, env=common.environment(self.home), input=job.stdin or b"", capture_output=True, check=False
        )

    def run_killed(self, job: Job, call: str, number: int) -> subprocess.CompletedProcess[bytes]:
        """Run it and kill it as one of its threads makes that system call for the n-th time, before it is made."""
        inject = f"inject={call}:signal=KILL:when={number}"
        return self.run(job, "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)

    def wrong(self, job: Job, seen: Seen, done: subprocess.CompletedProcess[bytes]) -> list[str]:
        """Return what may not be, as it is after a run that was killed or not."""
        before, after = (one.facts for one in self.ends(job))
        wanted: list[frozenset[str]] = [after] if answered(job, done) else [before, after]
        if seen.facts in wanted:
            return []
        if not job.by_parts or len(wanted) == 1:
            nearest = min(wanted, key=lambda one: len(one ^ seen.facts))
            return sorted(f"{'more' if one in seen.facts else 'lacks'}: {one}" for one in nearest ^ seen.facts)
        lost = (before & after) - seen.facts
        if job.stdin and job.command[-1] == "--jsonl":  # answered line by line
            lost |= {f"episode default/{one}" for one in _ids(done.stdout)} - seen.facts
        # Between the ledger and the database an erasure is told as begun; the same command brings it to its end.
        more = {one for one in seen.facts - before - after if not one.startswith("store check: erasures:")}
        return sorted([f"lacks: {one}" for one in lost] + [f"more: {one}" for one in more])

    def wrong_again(self, job: Job) -> list[str]:
        """Run the job again, after one that was killed or not, and return what is not as it is to be then."""
        _, after = self.ends(job)
        again = self.run(job)
        if self.other.exists():
            common.caller(self.other, writes=False).close()  # whoever uses it first
        wrong = []
        if again.returncode not in (0, job.again):
            wrong.append(f"again: exit {again.returncode}: {again.stderr.decode()[-300:]}")
        strange = self.files() - after.files
        wrong += [f"again: {one} lies about" for one in sorted(strange)]
        facts = self.look().facts
        if facts != after.facts:
            wrong += sorted(f"again: {'more' if one in facts else 'lacks'}: {one}" for one in facts ^ after.facts)
        return wrong

    # -- looking -----------------------------------------------------------------------------------------------

    def files(self) -> frozenset[str]:
        """Return the names of all files, those that differ by a number or an id alike."""
        # The half of a file that `memory export` or `config set` was killed over stays, hidden and named by a process.
        names = {str(one.relative_to(self.place)) for one in self.place.rglob("*") if one.suffix != ".tmp"}
        return frozenset(re.sub(r"[0-9a-f]{8,}[0-9a-fTZ-]*|\d+", "#", name) for name in names)

    def look(self) -> Seen:
        """Return what there is. Looks at copies: to open a store is to mend it, and the job is to be given again."""
        from fedctl.operations.register import Register

        files = self.files()
        facts: set[str] = set()
        copies = self.place / "copies"
        for home in (self.home, self.other):
            if (home / "store.db").exists() or (home / "store.db.exchange").exists():
                shutil.copytree(home, copies, ignore=shutil.ignore_patterns("hub.sock"))
                try:
                    which = f"{home.name}: " if home == self.other else ""
                    facts |= {f"{which}{fact}" for fact in _facts(copies, self._known)}
                finally:
                    shutil.rmtree(copies)
        if self.elsewhere in Register(self.home).folders():  # else nobody finds what was made there
            facts.add("a new backup is known")
            facts |= {"a new backup" for one in self.elsewhere.glob("*.backup") if one.stat().st_size}
        for path in (self.exported, self.home / "config.toml"):
            facts |= {f"{path.name}: {path.read_bytes()!r}"} if path.exists() else set()
        return Seen(frozenset(facts), files)


def answered(job: Job, done: subprocess.CompletedProcess[bytes]) -> bool:
    """Return whether somebody was told that it is done, if only just before the kill."""
    if done.returncode == 0:
        return True
    if "--json" not in job.command or job.stdin:
        return False
    try:
        return bool(json.loads(done.stdout))
    except ValueError:
        return False


def _ids(lines: bytes) -> set[str]:
    whole, _, _ = lines.rpartition(b"\n")
    return {json.loads(line)["id"] for line in whole.split(b"\n") if line}


def _facts(copy: Path, known: Sequence[str]) -> set[str]:
    """Open the store of a copied home, as whoever comes next does, and say what is in it."""
    import apsw

    from fedctl.access.keys import KeyRing
    from fedctl.errors import FedctlError, NoStore
    from fedctl.messages.store import CheckStore
    from fedctl.store import ledger

    facts: set[str] = set()
    if (copy / "store.db").exists() and not (copy / "store.db.exchange").exists():
        with contextlib.closing(apsw.Connection(str(copy / "store.db"))) as raw:
            facts.add(f"schema {raw.execute('PRAGMA user_version').fetchall()[0][0]}")
            told = {row[0] for row in raw.execute("PRAGMA integrity_check")} - {"ok"}
            facts |= {f"damage: {one}" for one in told if "fts5" not in one.lower()}  # of words the check below tells
    else:
        facts.add(f"schema {_schema()}")
    caller: Any = None
    try:
        caller = common.caller(copy, writes=False)
        store = caller._context.store  # noqa: SLF001  the rows themselves, not what a verb makes of them
        rows: Callable[[str], Sequence[Any]] = store.database.rows
        # A tenant that is being erased has a name that nobody can name.
        facts |= {f"episode {row[0]}/{row[1]}" for row in rows(
            "SELECT t.name, e.id FROM episodes e JOIN tenants t ON t.key = e.tenant_key WHERE t.name NOT LIKE '-%'"
        )}  # fmt: skip
        facts |= {f"item {row[0]} of {row[1]} {row[2]} {row[3]}" for row in rows(
            "SELECT p.name, i.data, i.status, i.result FROM items i JOIN pools p ON p.key = i.pool_key "
            "JOIN tenants t ON t.key = i.tenant_key WHERE t.name NOT LIKE '-%'"
        )}  # fmt: skip
        facts |= {f"token {row[0]} revoked" for row in rows("SELECT id FROM tokens WHERE revoked_at_ms IS NOT NULL")}
        facts |= {f"erased {digest.hex()}" for _, digest, _ in store.erasures.entries()}
        findings = caller.call(CheckStore(full=True)).findings
        facts |= {f"store check: {finding.check}: {finding.message}" for finding in findings}
    except NoStore:
        facts.clear()  # nothing has come into its place yet
    except FedctlError as error:
        facts.add(f"cannot be opened: {error.message}")
    finally:
        if caller is not None:
            caller.close()
    facts |= {f"ledger {one.digest.hex()}" for one in ledger.Ledger(copy / ledger.FILE_NAME).read()}
    marked = any(MARK.encode() in one.read_bytes() for one in copy.glob("store.*") if one.is_file())
    facts |= {f"a byte of {MARK}"} if marked else set()
    facts |= {f"key {kid}" if kid in known else "a new key" for kid in KeyRing(copy / "keys").kids()}
    return facts | _backups(copy, known)


def _schema() -> int:
    from fedctl.store.migrate import SCHEMA_VERSION

    return SCHEMA_VERSION


def _backups(copy: Path, known: Sequence[str]) -> set[str]:
    """Name the backups, those that are whole and those that are not."""
    from fedctl.access.sealing import Opener, own_public_key
    from fedctl.archive.reader import open_archive
    from fedctl.errors import FedctlError

    facts = set()
    for path in sorted(copy.glob("backups/*.backup")):
        try:
            with open_archive(path, Opener(own_public_key(copy / "keys"))) as archive:
                archive.verify(lambda _bytes: None)
            facts.add(f"backup {path.name}" if path.name in known else "a new backup")
        except FedctlError as error:
            facts.add(f"a damaged backup: {error.message}")
    return facts


def _make_old(path: Path) -> None:
    """Put the rows of a store into one of an older schema, and that in its place."""
    import apsw

    from fedctl.store import migrate
    from fedctl.store.database import Database

    old = path.with_name("old.db")
    old.touch(mode=0o600)
    database = Database(old)
    with database.write():
        migrate.migrate(database, 0, through=OLD_SCHEMA)
    database.use_wal()
    database.close()
    old.with_suffix(".lock").unlink()
    with contextlib.closing(apsw.Connection(str(old))) as raw:
        raw.execute("ATTACH ? AS new", (str(path),))
        present = {row[0] for row in raw.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")}
        words = [
            sql for (sql, name) in raw.execute(
                "SELECT sql, name FROM new.sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'")
            if name not in present
        ]  # fmt: skip
        raw.execute("BEGIN").fetchall()
        for sql in words:
            raw.execute(sql).fetchall()
        tables = [row[0] for row in raw.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")]  # fmt: skip
        for table in tables:
            if table == "migrations":
                continue
            columns = [{row[1] for row in raw.execute(f"PRAGMA {schema}.table_info('{table}')")}
                       for schema in ("main", "new")]  # fmt: skip
            both = ", ".join(sorted(columns[0] & columns[1]))
            raw.execute(f"DELETE FROM main.{table}").fetchall()
            raw.execute(f"INSERT INTO main.{table} ({both}) SELECT {both} FROM new.{table}").fetchall()
        raw.execute("COMMIT").fetchall()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    for suffix in ("", "-wal", "-shm"):
        one = Path(f"{old}{suffix}")
        if one.exists():
            one.rename(f"{path}{suffix}")
