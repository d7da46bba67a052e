"""The manual: made of the command tree, the settings and the errors, as roff and as text."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from fedctl import config, errors
from fedctl.cli import pages, roff, tree
from fedctl.cli.roff import Lines, Page, Prose, Section, Term

ROOT = Path(__file__).parents[2]


def test_what_is_committed_is_what_the_generator_writes(tmp_path: Path):
    generate = runpy.run_path(str(ROOT / "scripts" / "generate"), run_name="generate")
    assert generate["stale"]() == [], "run scripts/generate"
    assert set(generate["stale"](tmp_path)) == set(generate["files"]()), "all of them are missing there"
    (tmp_path / "man").mkdir()
    (tmp_path / "man" / "fedctl-gone.1").touch()
    assert "man/fedctl-gone.1" in generate["stale"](tmp_path)


def test_every_command_has_its_page_and_stands_on_it(fedctl):
    for one in tree.walk():
        if one.path:
            text = fedctl("man", *one.path).out
            assert text.startswith(f"fedctl-{one.path[0]}(1)\n"), one.name
            assert one.name in text.partition("SEE ALSO")[0]
            for option in one.options:
                assert f"    {', '.join((*option.spellings, *option.negations))}" in text, (one.name, option)


def test_every_setting_variable_and_exit_code_is_in_the_manual():
    assert list(pages.MEANINGS) == list(config.KEYS)
    of_settings = {name for key in config.KEYS.values() for name in key.environment}
    named = set()
    for path in (ROOT / "fedctl").rglob("*.py"):
        named |= set(re.findall(r"[\"']((?:FEDCTL|DEBUG)_[A-Z_]+)[\"']", path.read_text("utf-8")))
    ours = {name for name in pages.VARIABLES if name.startswith("FEDCTL")}
    assert named == of_settings | ours
    codes = roff.as_text(pages.find(["exit-codes"]))
    for kind in errors.BY_CODE.values():
        assert f"    {kind.exit} {kind.code}\n" in codes
        assert kind.remedy[:40] in " ".join(codes.split())


def test_a_page_is_found_by_any_of_its_names(fedctl):
    for words, name in (
        ((), "fedctl(1)"),
        (("fedctl",), "fedctl(1)"),
        (("fedctl-pool",), "fedctl-pool(1)"),
        (("pool", "claim"), "fedctl-pool(1)"),
        (("pool-claim",), "fedctl-pool(1)"),
        (("config",), "fedctl-config(1)"),
        (("config.1",), "fedctl-config(1)"),
        (("config.5",), "fedctl-config(5)"),
        (("fedctl-config.5",), "fedctl-config(5)"),
        (("exit-codes",), "fedctl-exit-codes(7)"),
    ):
        result = fedctl("man", *words)
        assert (result.code, result.err) == (0, ""), words
        assert result.out.partition("\n")[0] == name


@pytest.mark.parametrize(
    ("words", "hint"),
    [(("pol",), "did you mean pool?"), (("pool", "clam"), "did you mean pool-claim?"), (("config.7",), "config.5")],
)
def test_a_page_that_is_not_there_says_which_was_perhaps_meant(fedctl, words, hint):
    result = fedctl("man", *words)
    assert (result.code, result.out) == (2, "")
    assert hint in result.err


def test_text_is_eighty_columns_wide_and_has_nothing_of_roff(fedctl):
    for name in pages.pages():
        for line in fedctl("man", name).out.splitlines():
            assert len(line) <= 80 or line.startswith("        "), line
            assert "\\f" not in line
            assert "\x1b" not in line


NASTY = Page(
    "fedctl-nasty",
    1,
    "a page",
    (
        Section("NAME"),
        Prose("fedctl-nasty - a page"),
        Prose(".so /etc/passwd is a text. 'quoted begins with a quote. \\fBback\\slashes\\fR, ~tilde^ and --flag"),
        Term(("-k", "--keep"), "N|none", "'sh -c' takes `a\\nb`. \"Yes\", it does. .NO request"),
        Lines((".nf", "'br", "printf 'a\\tb' | tr '\\t' - # ~/x `y`", "")),
    ),
)


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
def test_groff_takes_every_page_without_a_warning_and_shows_what_was_written():
    all_pages = "".join(roff.as_roff(page, "1.0") for page in (*pages.pages().values(), NASTY))
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou"], input=all_pages, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    shown = " ".join(done.stdout.partition("FEDCTL-NASTY(1)")[2].split())
    for text in (
        "fedctl-nasty - a page",
        ".so /etc/passwd is a text. 'quoted begins with a quote. \\fBback\\slashes\\fR, ~tilde^ and --flag",
        "-k, --keep N|none",
        "'sh -c' takes a\\nb. \"Yes\", it does. .NO request",
        ".nf 'br printf 'a\\tb' | tr '\\t' - # ~/x `y`",
    ):
        assert text in shown


def test_on_a_terminal_man_shows_the_page_and_text_does_where_there_is_no_man(fedctl, tmp_path: Path):
    program = tmp_path / "bin" / "man"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/shown; echo "$1" >{tmp_path}/name\n')
    program.chmod(0o755)
    environ = {"PATH": f"{program.parent}:/usr/bin:/bin", "TERM": "xterm"}
    result = fedctl("man", "pool", terminal=True, environ=environ)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (tmp_path / "shown").read_text() == (ROOT / "man" / "fedctl-pool.1").read_text()
    assert not Path((tmp_path / "name").read_text().strip()).exists(), "it left its file behind"

    as_text = fedctl("man", "pool").out
    program.write_text("#!/bin/sh\nexit 1\n")
    for without in ({**environ, "PATH": str(tmp_path)}, {**environ, "TERM": "dumb"}, environ):
        assert fedctl("man", "pool", terminal=True, environ=without).out == as_text
