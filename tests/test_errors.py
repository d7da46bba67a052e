from __future__ import annotations

import errno
import os

import msgspec
import pytest

from fedctl import errors

EXITS = {
    "failure": 1, "usage": 2, "partial": 3, "not_found": 4, "conflict": 5, "empty": 6, "unavailable": 7, "timeout": 8,
    "denied": 9, "no_store": 10, "locked": 11, "corrupt": 13, "findings": 14, "disk_full": 15, "expired": 124,
}  # fmt: skip


def test_the_codes_and_exits_are_those_of_the_contract():
    assert {code: kind.exit for code, kind in errors.BY_CODE.items()} == EXITS


@pytest.mark.parametrize("code", EXITS)
def test_an_error_comes_out_of_its_code_as_it_went_in(code: str):
    before = errors.BY_CODE[code]("what", hint="do this", details={"n": 1})
    after = errors.from_code(code, before.message, hint=before.hint, details=before.details)
    assert type(after) is type(before)
    assert after.as_dict() == before.as_dict()
    assert set(after.as_dict()) == {"code", "exit", "message", "hint", "retryable", "details"}


def test_an_error_that_quotes_bytes_that_are_no_text_can_be_written():
    error = errors.UsageError("\udcff is no flag", hint="did you mean '\ud800ä'?")
    assert (error.message, error.hint) == ("\\udcff is no flag", "did you mean '\\ud800ä'?")
    msgspec.json.encode(error.as_dict())


def test_a_code_of_a_newer_peer_is_a_failure():
    assert type(errors.from_code("quota", "too much")) is errors.Failure


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, errors.DiskFull), (errno.EDQUOT, errors.DiskFull), (errno.EACCES, errors.Denied),
        (errno.EROFS, errors.Denied), (errno.EPERM, errors.Denied), (errno.EIO, errors.Failure), (errno.ENOTDIR,
        errors.Failure),
    ],
)  # fmt: skip
def test_what_the_operating_system_says_has_a_code_too(number: int, kind: type[errors.FedctlError]):
    assert type(errors.from_os(OSError(number, os.strerror(number)), "it cannot be written")) is kind


def test_a_hub_that_could_not_even_write_its_log_is_told_by_its_exit_code(tmp_path):
    from fedctl.bootstrap import _did_not_start

    log = tmp_path / "hub.log"
    log.touch()
    codes = [_did_not_start(status, log, 0).exit for status in (15, 11, 7, 1, 99, -9)]
    assert codes == [15, 11, 7, 1, 1, 1]
    assert "the disk is full" in _did_not_start(15, log, 0).message


def test_who_is_refused_is_told_whose_the_place_is_and_what_opens_it(tmp_path, monkeypatch):
    home = tmp_path / "a home"
    home.mkdir(mode=0o500)
    refused = errors.denied("no", home)
    assert refused.message.startswith(f"no ({home} is ")
    assert refused.message.endswith("'s, mode 0500)")
    assert refused.hint == f"chmod u+rwx '{home}'"
    assert errors.denied("no", home / "not" / "there").hint == refused.hint
    home.chmod(0o700)
    assert "findmnt" in errors.denied("no", home).hint
    monkeypatch.setattr(os, "getuid", lambda: home.stat().st_uid + 1)
    assert errors.denied("no", home).hint.startswith("sudo -u ")
