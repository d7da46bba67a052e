from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fedctl import config
from fedctl.errors import Denied, UsageError


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def load(home: Path, flags=None, **environ):
    return config.load({"home": str(home), **(flags or {})}, environ)


def test_the_defaults_are_those_of_the_contract(home):
    settings = load(home)
    assert (settings.hub, settings.tenant, settings.format, settings.color) == ("auto", "default", "table", "auto")
    assert settings.timeout_ms == 30_000
    assert not settings.tenant_explicit
    assert (settings.level_for(resident=True), settings.level_for(resident=False)) == ("basic", "silent")


def test_a_flag_beats_the_environment_beats_the_named_file_beats_the_homes_own(home, tmp_path):
    (home / "config.toml").write_text('tenant = "own"\ntimeout = "1s"\nformat = "json"\ncolor = "never"\n')
    named = tmp_path / "named.toml"
    named.write_text('tenant = "named"\ntimeout = "2s"\nformat = "ids"\n')
    settings = load(home, {"tenant": "flag", "config": str(named)}, FEDCTL_TENANT="environment", FEDCTL_TIMEOUT="3s")
    assert (settings.tenant, settings.timeout_ms, settings.format, settings.color) == ("flag", 3000, "ids", "never")
    assert settings.origins == {
        "home": "flag --home",
        "tenant": "flag --tenant",
        "timeout": "environment FEDCTL_TIMEOUT",
        "format": f"file {named}",
        "color": f"file {home / 'config.toml'}",
    }


def test_the_named_file_may_say_where_the_home_is_and_the_homes_own_may_not(home, tmp_path):
    named = tmp_path / "named.toml"
    named.write_text(f'home = "{home}"\n')
    assert config.load({}, {"FEDCTL_CONFIG": str(named)}).home == home
    (home / "config.toml").write_text('home = "/elsewhere"\n')
    with pytest.raises(UsageError):
        load(home)


def test_a_tenant_is_explicit_where_a_flag_or_the_environment_names_it(home):
    assert load(home, {"tenant": "a"}).tenant_explicit
    assert load(home, FEDCTL_TENANT="a").tenant_explicit
    (home / "config.toml").write_text('tenant = "a"\n')
    assert not load(home).tenant_explicit


def test_an_empty_variable_is_an_unset_one(home):
    assert load(home, FEDCTL_TENANT="", FEDCTL_TIMEOUT="", DEBUG_LEVEL="", FEDCTL_CONFIG="").origins == {
        "home": "flag --home"
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('tenat = "x"', "did you mean tenant?"),
        ('token = "x"', "token_file"),
        ("timeout = 30", "timeout"),
        ('timeout = "30"', "unit"),
        ('tenant = "../x"', "tenant"),
        ("tenant = ", "TOML"),
        ('hub = "http://x"', "hub"),
        ("\x00", "TOML"),
    ],
)
def test_a_wrong_file_is_a_usage_error_that_names_it(home, content, says):
    (home / "config.toml").write_text(content)
    with pytest.raises(UsageError) as caught:
        load(home)
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert "config.toml" in caught.value.message


def test_a_named_file_must_be_there(home, tmp_path):
    with pytest.raises(UsageError):
        load(home, {"config": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        ({"hub": "http://x"}, {}), ({"hub": "ws://"}, {}), ({"timeout": "0s"}, {}), ({"format": "xml"}, {}),
        ({"color": "blue"}, {}), ({"debug_level": "loud"}, {}), ({}, {"FEDCTL_HUB": "x"}), ({}, {"FEDCTL_FORMAT": "x"}),
        ({}, {"FEDCTL_TENANT": "a/b"}),
    ],
)  # fmt: skip
def test_wrong_values_are_usage_errors(home, flags, environ):
    with pytest.raises(UsageError):
        load(home, flags, **environ)


def test_nonsense_in_variables_that_other_programs_share_only_warns(home):
    (home / "config.toml").write_text('debug_level = "trace"\n')
    settings = load(home, DEBUG_LEVEL="5", DEBUG_FORMAT="x", DEBUG_OUTPUT="y")
    assert len(settings.warnings) == 3
    assert settings.debug_level == "trace"
    assert load(home, DEBUG_LEVEL="Verbose").debug_level == "verbose"


def test_no_color_and_force_color_are_heard(home):
    assert load(home, NO_COLOR="1").color == "never"
    assert load(home, FORCE_COLOR="1").color == "always"
    assert load(home, FORCE_COLOR="0").color == "auto"
    assert load(home, NO_COLOR="1", FORCE_COLOR="1").color == "never"
    assert load(home, {"color": "always"}, NO_COLOR="1").color == "always"


def test_a_token_comes_from_a_file_or_the_environment_and_is_never_shown(home, tmp_path):
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert load(home).read_token() is None
    assert load(home, FEDCTL_TOKEN="secret-1").read_token().reveal() == "secret-1"
    assert load(home, FEDCTL_TOKEN="secret-1", FEDCTL_TOKEN_FILE=str(file)).read_token().reveal() == "from-file"
    assert load(home, {"token_file": str(file)}, FEDCTL_TOKEN="secret-1").read_token().reveal() == "from-file"
    settings = load(home, FEDCTL_TOKEN="secret-1")
    assert "secret-1" not in repr(settings)
    assert "secret-1" not in repr(settings.pairs())
    file.write_text("\n")
    with pytest.raises(UsageError):
        load(home, {"token_file": str(file)}).read_token()
    with pytest.raises(UsageError):
        load(home, {"token_file": str(tmp_path / "none")}).read_token()


def test_a_home_below_a_file_or_that_is_one_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "home"):
        with pytest.raises(UsageError):
            load(path)
    assert load(tmp_path / "not" / "yet").home == tmp_path / "not" / "yet"


def test_a_home_without_a_name_is_the_platforms(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert config.load({}, {}).home.name == "fedctl"


def test_setting_a_key_keeps_comments_and_order_and_is_private(home):
    file = home / "config.toml"
    file.write_text('# mine\ntenant = "a" # why\ntimeout = "1s"\n')
    config.set_key(load(home), "tenant", "b")
    config.set_key(load(home), "format", "json")
    assert file.read_text() == '# mine\ntenant = "b" # why\ntimeout = "1s"\nformat = "json"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == ["config.toml"]
    assert load(home).tenant == "b"


def test_unsetting_a_key_keeps_comments_and_order_and_what_is_not_there_is_told(home):
    file = home / "config.toml"
    file.write_text('# mine\ntenant = "a" # why\n\n# slow\ntimeout = "1s"\nformat = "json"\n')
    assert config.unset_key(load(home), "timeout") == (file, True)
    assert file.read_text() == '# mine\ntenant = "a" # why\n\n# slow\nformat = "json"\n'
    assert config.unset_key(load(home), "timeout") == (file, False)
    with pytest.raises(UsageError):
        config.unset_key(load(home), "timeut")
    assert config.unset_key(load(home / "none"), "tenant")[1] is False
    assert not (home / "none").exists()


def test_setting_a_key_makes_the_home_and_refuses_nonsense(tmp_path):
    settings = load(tmp_path / "new")
    for key, value in (("tenat", "x"), ("token", "x"), ("tenant", "a/b"), ("timeout", "5"), ("home", "/x")):
        with pytest.raises(UsageError):
            config.set_key(settings, key, value)
    assert not settings.home.exists()
    config.set_key(settings, "timeout", "5s")
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700


def test_a_file_with_mistakes_is_not_built_upon(home):
    settings = load(home)
    (home / "config.toml").write_text("tenant = ")
    with pytest.raises(UsageError):
        config.set_key(settings, "tenant", "a")
    assert (home / "config.toml").read_text() == "tenant = "


def test_a_link_to_a_config_file_stays_a_link(home, tmp_path):
    target = tmp_path / "dotfiles.toml"
    target.write_text("")
    (home / "config.toml").symlink_to(target)
    config.set_key(load(home), "tenant", "a")
    assert (home / "config.toml").is_symlink()
    assert target.read_text() == 'tenant = "a"\n'


def test_where_nothing_may_be_written_is_said(tmp_path):
    with pytest.raises((Denied, UsageError)):
        config.set_key(load(Path("/proc/1/none")), "tenant", "a")


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "a\udcff", "a\0b"])
def test_a_path_that_leads_nowhere_is_a_usage_error(home, path):
    for flag in ("home", "token_file", "debug_file"):
        with pytest.raises(UsageError):
            load(home, {flag: path})
