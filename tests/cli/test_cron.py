"""A monitor hears of runs: a real server, pings as they arrive there."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from fedctl.cli import cron
from fedctl.cli.cron import pinged, read_url, when_free
from fedctl.cli.main import Terminated
from fedctl.cli.render import OutputClosed
from fedctl.errors import Conflict, Unavailable, UsageError
from fedctl.operations.job import exclusive_job


class Monitor(ThreadingHTTPServer):
    """Notes what it hears, and answers with the statuses it was told to (then 200)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Hearing)
        self.heard = []
        self.statuses = []
        self.url = f"http://127.0.0.1:{self.server_port}/ping/s3cret"


class _Hearing(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        self.server.heard.append((self.command, self.path, body) if body else self.path)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 302:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815  the server's own names

    def log_message(self, *_):
        return


@pytest.fixture(scope="module")
def _server():
    with Monitor() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def monitor(_server):
    _server.heard.clear()
    _server.statuses.clear()
    return _server


def until(condition, within_s=30.0):
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


class Command:
    """What `pinged` knows of a command."""

    def __init__(self, dry_run=False):
        self.notes = []
        self.flushed = 0
        self.dry_run = dry_run
        self.screen = SimpleNamespace(note=self.notes.append, flush=self._flush)

    def _flush(self):
        self.flushed += 1


@pytest.fixture
def command():
    return Command()


@pytest.fixture
def url_file(tmp_path, monitor):
    file = tmp_path / "url"
    file.write_text(f"  {monitor.url}/ \n\n")
    return file


def test_a_run_that_goes_well_is_heard_at_its_begin_and_at_its_end(command, monitor, url_file):
    with pinged(command, url_file):
        assert monitor.heard == ["/ping/s3cret/start"]
    assert monitor.heard == ["/ping/s3cret/start", "/ping/s3cret"]
    assert (command.notes, command.flushed) == ([], 1)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Conflict("the guard refused", hint="give it more"), "exit 5: the guard refused (give it more)"),
        (PermissionError(13, "Permission denied"), "exit 9: [Errno 13] Permission denied"),
        (KeyboardInterrupt(), "exit 130: interrupted"),
        (Terminated(), "exit 143: ended by SIGTERM"),
        (OutputClosed(), "exit 141: nobody read the answer"),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_a_failure_is_heard_with_its_exit_code_and_its_line(command, monitor, url_file, error, told):
    with pytest.raises(type(error)), pinged(command, url_file):
        raise error
    assert monitor.heard == ["/ping/s3cret/start", ("POST", "/ping/s3cret/fail", told)]


def test_an_outcome_that_is_no_success_is_heard_as_a_failure(command, monitor, url_file):
    with pinged(command, url_file) as run:
        run.code = 14
    assert monitor.heard[-1] == ("POST", "/ping/s3cret/fail", "exit 14")


def test_an_answer_that_cannot_be_handed_over_is_a_failure(command, monitor, url_file):
    def flush():
        raise OutputClosed

    command.screen.flush = flush
    with pytest.raises(OutputClosed), pinged(command, url_file):
        pass
    assert monitor.heard[-1][1] == "/ping/s3cret/fail"


def test_a_dry_run_is_nothing_to_hear_of(monitor, url_file):
    with pinged(Command(dry_run=True), url_file):
        pass
    assert monitor.heard == []


def test_without_a_file_nobody_hears(command, monitor):
    with pinged(command, None):
        pass
    assert (monitor.heard, command.flushed) == ([], 0)


def test_a_query_stays_behind_the_path(command, monitor, tmp_path):
    (tmp_path / "url").write_text(f"{monitor.url}?create=1")
    with pinged(command, tmp_path / "url"):
        pass
    assert monitor.heard == ["/ping/s3cret/start?create=1", "/ping/s3cret?create=1"]


def test_a_ping_is_tried_again_when_the_monitor_stumbles(command, monitor, url_file):
    monitor.statuses = [503]
    with pinged(command, url_file):
        assert monitor.heard == ["/ping/s3cret/start"] * 2
    assert command.notes == []


def test_a_refused_ping_is_one_note_and_changes_nothing(command, monitor, url_file):
    monitor.statuses = [404, 404]
    with pinged(command, url_file):
        pass
    assert monitor.heard == ["/ping/s3cret/start", "/ping/s3cret"]
    assert command.notes == ["the monitor was not told: it answered 404"]


def test_no_redirect_is_followed_with_the_secret(command, monitor, url_file):
    monitor.statuses = [302, 302]
    with pinged(command, url_file):
        pass
    assert "/elsewhere" not in monitor.heard
    assert len(command.notes) == 1
    assert "redirects are not followed" in command.notes[0]


def test_a_monitor_that_is_not_there_is_one_note_without_the_url(command):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hearing) as gone:
        port = gone.server_port
    gone = cron.Monitor(f"http://127.0.0.1:{port}/s3cret", command.notes.append)
    gone.tell("/start")
    gone.tell("")
    assert command.notes == ["the monitor was not told: connection refused"]


def test_a_monitor_that_never_answers_holds_nobody_up_for_long(command):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hearing) as silent:  # listens, and nobody serves
        cron.Monitor(f"http://127.0.0.1:{silent.server_port}/s3cret", command.notes.append, patience_s=0.1).tell("")
    assert command.notes == ["the monitor was not told: no answer within 0.1 s"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
        (b"https://a/s3cret\nhttps://b/s3cret", "does not hold one URL"),
        (b"https://a/s3cret b", "does not hold one URL"),
        (b"https://a/\x1bs3cret", "does not hold one URL"),
        (b"https://\xff/s3cret", "does not hold one URL"),
        (b"https://a/" + b"s3cret" * 1000, "does not hold one URL"),
        (b"ftp://a/s3cret", "no http or https URL"),
        (b"https:///s3cret", "no http or https URL"),
        (b"https://a:99999/s3cret", "no http or https URL"),
        (b"https://[::1/s3cret", "no http or https URL"),
        (b"https://a/s3cret#x", "no http or https URL"),
        (b"s3cret", "no http or https URL"),
    ],
)
def test_a_file_that_holds_no_url_is_refused_before_the_work_and_not_quoted(command, tmp_path, content, why):
    file = tmp_path / "url"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=why) as refused, pinged(command, file):
        pytest.fail("the work was begun")
    assert str(file) in refused.value.message
    assert "s3cret" not in f"{refused.value.message}{refused.value.hint}"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="--ping-url-file: cannot read"):
            read_url(path)


def test_quiet_tells_an_error_in_one_line(fedctl):
    plain = fedctl("memory", "get", "nope")
    quiet = fedctl("-q", "memory", "get", "nope")
    assert plain.code == quiet.code == 10
    said, hint = plain.err.splitlines()
    assert quiet.err == f"{said} ({hint.removeprefix('hint: ')})\n"


@pytest.mark.parametrize("argv", [["memory", "lisst", "-q"], ["--quiet", "memory", "list", "--limmit", "5"]])
def test_quiet_counts_also_where_parsing_failed_before_it_was_seen(fedctl, argv):
    result = fedctl(*argv)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1, result.err
    assert "did you mean" in result.err


def test_what_comes_after_two_dashes_asks_for_no_quiet(fedctl):
    result = fedctl("memory", "lisst", "--", "-q")
    assert len(result.err.splitlines()) == 2


def test_quiet_json_errors_stay_json(fedctl):
    assert fedctl("-q", "--json", "memory", "get", "nope").error["exit"] == 10


@contextlib.contextmanager
def waiting(home, url_file, *argv):
    """Run a job as a process that waits for another run of its kind."""
    environment = {"FEDCTL_HOME": str(home), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "fedctl", "-q", *argv, "--lock-wait", "1m", "--ping-url-file", str(url_file)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_ends_a_real_job_is_heard_as_a_failure(fedctl, monitor, url_file, number, code):
    fedctl.store("x")
    fedctl("retention", "set", "--max-episodes", "1")
    with exclusive_job(fedctl.home, "prune"), waiting(fedctl.home, url_file, "retention", "prune") as process:
        until(lambda: monitor.heard)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, b"", b"")
    assert monitor.heard[0] == "/ping/s3cret/start"
    assert monitor.heard[1][:2] == ("POST", "/ping/s3cret/fail")
    assert monitor.heard[1][2].startswith(f"exit {code}: ")


JOBS = (
    ["retention", "prune"],
    ["backup", "create"],
    ["backup", "verify", "latest"],
    ["backup", "prune", "--keep-last", "1"],
)
NAMES = ("prune", "backup", "verify", "backup")


@pytest.mark.parametrize(("argv", "name"), list(zip(JOBS, NAMES, strict=True)))
def test_a_second_run_ends_in_one_line_that_the_monitor_hears_too(fedctl, monitor, url_file, argv, name):
    fedctl.store("x")
    fedctl("retention", "set", "--max-episodes", "1")
    with exclusive_job(fedctl.home, name):
        result = fedctl("-q", *argv, "--ping-url-file", str(url_file))
    assert (result.code, result.out) == (7, "")
    assert re.fullmatch(rf"error: another {name} is running on this home \(.*--lock-wait.*\)\n", result.err)
    assert monitor.heard[1][2].startswith(f"exit 7: another {name} is running")


@pytest.mark.parametrize("argv", JOBS, ids=" ".join)
def test_a_bad_url_file_is_told_before_anything_is_done(fedctl, tmp_path, argv):
    (tmp_path / "url").write_text("a\nb")
    result = fedctl("-q", *argv, "--ping-url-file", str(tmp_path / "url"))
    assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
    assert not fedctl.home.exists()


def test_a_command_asks_again_while_another_run_is_under_way_and_no_longer():
    asked = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise Unavailable("another prune is running", details={"job": "prune"})
        return "done"

    assert when_free("prune", ask, 60_000) == "done"
    asked.clear()
    with pytest.raises(Unavailable):
        when_free("prune", ask, 0)
    asked.clear()
    with pytest.raises(Unavailable):
        when_free("verify", ask, 60_000)
    assert len(asked) == 1
