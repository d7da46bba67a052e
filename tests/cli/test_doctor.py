"""doctor and status on the command line: forms, exit codes, and that nothing is changed unasked."""

from __future__ import annotations

import pytest

from fedctl.doctor.examine import CHECKS
from fedctl.doctor.report import ok


@pytest.fixture
def examined(fedctl, tmp_path, monkeypatch):
    """A command line with a temporary folder of its own, on any disk, and a model that nobody loads."""
    (tmp_path / "tmp").mkdir()
    fedctl.environ |= {"TMPDIR": str(tmp_path / "tmp"), "COLUMNS": "80"}
    monkeypatch.setattr("fedctl.agent.folder.LAST_RESORT", tmp_path / "tmp")
    for name in ("file system", "model"):
        monkeypatch.setitem(CHECKS, name, lambda _patient: ok("not looked at"))
    return fedctl


def test_a_home_that_is_not_there_is_well_and_stays_away(examined):
    result = examined("doctor", "--json")
    assert (result.code, result.json["ok"]) == (0, True)
    assert not examined.home.exists()


def test_findings_are_14_one_object_and_a_command_to_paste(examined):
    examined.store("x")
    examined.home.chmod(0o755)
    result = examined("doctor", "--json")
    checks = {one["check"]: one for one in result.json["checks"]}
    assert result.code == 14
    assert (result.json["ok"], result.json["warnings"], result.json["failures"]) == (False, 2, 0)
    assert checks["home"]["fix"] == f"chmod 700 {examined.home}"
    assert (checks["home"]["fixable"], checks["backup"]["fixable"]) == (True, False)
    assert examined("doctor", "--ids").out == "home\nbackup\n"
    assert examined("doctor", "-q").err == "error: 2 warnings; --fix mends 1 of them\n"


def test_fix_mends_what_is_safe_and_with_n_only_says_so(examined):
    examined.store("x")
    examined.home.chmod(0o755)
    would = examined("doctor", "--fix", "-n", terminal=True)
    assert (would.code, "--fix would: chmod 700" in would.out) == (14, True)
    assert examined.home.stat().st_mode & 0o777 == 0o755
    fixed = examined("doctor", "--fix", "--json")
    assert (fixed.code, fixed.json["fixed"], fixed.json["warnings"]) == (14, 1, 1)
    assert examined.home.stat().st_mode & 0o777 == 0o700
    assert examined("backup", "-q").code == 0
    assert examined("doctor").code == 0


def test_the_fix_finds_the_home_that_was_looked_at(examined, tmp_path):
    home = str(tmp_path / "elsewhere with a space")
    assert examined("memory", "store", "--task", "x", "--home", home).code == 0
    checks = {one["check"]: one for one in examined("doctor", "--home", home, "--json").json["checks"]}
    assert checks["backup"]["fix"] == f"fedctl --home '{home}' backup"


def test_a_person_gets_lines_with_colours_and_a_pipe_a_table(examined):
    examined.store("x\x1b[2J")
    shown = examined("doctor", terminal=True)
    assert "\x1b[33mwarning  \x1b[0m" in shown.out
    assert "\x1b[1m$ fedctl backup\x1b[0m" in shown.out
    assert max(len(line) for line in shown.out.splitlines() if "\x1b" not in line) <= 80
    plain = examined("doctor", terminal=True, environ={"NO_COLOR": "1"})
    assert "\x1b" not in plain.out
    piped = examined("doctor")
    assert piped.out.startswith("check\tstatus\tfound\tfix\tmends\tfixed\nversions\tok\t")


def test_a_wrong_config_file_is_found_and_a_wrong_flag_is_an_error(examined):
    examined("init")
    (examined.home / "config.toml").write_text("nonsense")
    assert examined("status").code == 2
    result = examined("doctor", "--json")
    assert result.code == 14
    assert next(one for one in result.json["checks"] if one["check"] == "config")["status"] == "failure"
    assert examined("doctor", "--tenant", "a b").code == 2


# -- status --------------------------------------------------------------------------------------------------------


def test_status_says_what_is_wrong_at_a_glance_and_what_fits_next(fedctl):
    nothing = fedctl("status", "--json").json
    assert (nothing["findings"], nothing["work"], nothing["backup"]) == ([], None, None)
    fedctl.store("x")
    status = fedctl("status", "--json").json
    assert status["findings"] == ["there is no backup"]
    assert status["next"][:2] == ["fedctl doctor", "fedctl backup"]
    assert fedctl("backup", "-q").code == 0
    assert fedctl("pool", "push", "builds", "1").code == 0
    status = fedctl("status", "--json").json
    assert (status["findings"], status["work"]["pending"], status["retention"]) == ([], 1, False)
    assert status["backup"]["age_s"] < 60
    assert status["next"][0] == "fedctl pool work builds -- CMD"
    assert fedctl("retention", "set", "--max-age", "90d").code == 0
    assert fedctl("status", "--json").json["retention"] is True


def test_status_is_one_screen_for_a_person(fedctl):
    assert "none yet" in fedctl("status", terminal=True).out
    fedctl.store("x")
    shown = fedctl("status", terminal=True).out
    assert "there is no backup" in shown
    assert "$ fedctl backup" in shown
    assert len(shown.splitlines()) <= 24
