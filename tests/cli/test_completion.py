"""Completion as the shells do it: each shell completes the same lines, in one process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fedctl.cli import shells, tree
from fedctl.cli.shells import ASKED, FILES, ITEMS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine

ITEM = "01a1fe4f-f880-770a-94f4-659fecdec275"

LINES = {
    "fedctl mem": {"memory"},
    "fedctl memory q": {"query"},
    "fedctl -q memory p": {"pin"},
    "fedctl memory query --mo": {"--mode"},
    "fedctl memory query --mode ": {"hybrid", "semantic", "keyword"},
    "fedctl memory query --mode=k": {"--mode=keyword"},
    "fedctl memory query -k 3 --mode s": {"semantic"},
    "fedctl memory query --no-such": set(),
    "fedctl --format js": {"json", "jsonl"},
    "fedctl pool ls --fields name,pend": {"name,pending"},
    "fedctl retention set --no-k": {"--no-keep-success"},
    "fedctl agent list --status s": {"spawning", "shutting_down"},
    "fedctl worker status w2 ter": {"terminating", "terminated"},
    "fedctl man exit": {"exit-codes"},
    "fedctl schema memory qu": {"query"},
    "fedctl agent spawn --id x -- zz-": {"zz-of-mine"},
    "fedctl pool work builds -- cat fi": {"file-of-mine"},
    "fedctl memory import fi": {"file-of-mine"},
    "fedctl memory import --table fi": set(),
    "fedctl store vacuum fi": set(),
    # What a home has: asked for.
    "fedctl pool show b": {"builds", "builds:nightly"},
    "fedctl pool show builds:": {"builds:nightly"},
    "fedctl --home ~/x --tenant 'a' --hub=off pool claim li": {"lint"},
    "fedctl pool complete x --then-push li": {"lint"},
    "fedctl pool complete x --then-push lint ": set(),
    "fedctl pool fail 01": {ITEM},
    "fedctl pool complete --then-push lint '{}' 01": {ITEM},
    "fedctl restore la": {"latest"},
}
"""What stands before the cursor, and what completes it."""

PROGRAM = f"""#!/bin/sh
echo "$*" >>"$HOME/asked"
case "$*" in
*"pool list"*) echo builds; echo builds:nightly; echo lint ;;
*"pool items"*) echo {ITEM} ;;
*) echo "error: nothing" >&2; exit 10 ;;
esac
"""


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder with a fedctl that answers at once, a command, and a file."""
    for name, content in {"fedctl": PROGRAM, "zz-of-mine": "#!/bin/sh\n"}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(content)
        program.chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "file-of-mine").touch()
    return tmp_path


DRIVERS = {
    "bash": r"""
source "$HOME/fedctl.bash"
compopt() { case $2 in default) COMPREPLY+=($(compgen -f -- "$cur")) ;; esac; }
while IFS= read -r COMP_LINE; do
    # The words as bash breaks them: at blanks, and around each row of = and :
    COMP_POINT=${#COMP_LINE} COMP_WORDS=() word=''
    for ((at = 0; at < COMP_POINT; at++)); do
        next=${COMP_LINE:at:1}
        case $word$next in
        *' ' | [=:]*[!=:] | [!=:]*[=:])
            [[ -n $word ]] && COMP_WORDS+=("$word")
            word=${next# }
            ;;
        *) word+=$next ;;
        esac
    done
    COMP_WORDS+=("$word") COMP_CWORD=${#COMP_WORDS[@]}-1
    echo "== $COMP_LINE"
    _fedctl
    printf '%s\n' "${COMPREPLY[@]}"
done
""",
    "fish": r"""
source "$HOME/fedctl.fish"
while read --line line
    echo "== $line"
    complete -C "$line" | string replace -r '\t.*' ''
end
true
""",
    "zsh": r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'source "$HOME/inner"'
while zpty -r shell out; do [[ $out == *READY* ]] && break; done
while IFS= read -r line; do
    print -r -- "== $line"
    zpty -n -w shell "$line"$'\t'
    while zpty -r shell out; do
        [[ $out == *HIT\ * ]] && print -r -- "${${out#*HIT }% HIT*}"
        [[ $out == *END* ]] && break
    done
    zpty -n -w shell $'\x15'
done
zpty -d shell
""",
}
INNER_ZSH = r"""
fpath=("$HOME" $fpath) PROMPT=
autoload -Uz compinit
compinit -D -u
unsetopt beep
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        local -a hits
        builtin compadd -A hits "$@"
        (($#hits)) && print -rl -- "HIT "${^hits}" HIT"
    fi
    builtin compadd "$@"
}
show() {
    compstate[insert]= compstate[list]=
    _main_complete
    print END
    compstate[insert]= compstate[list]=
}
zle -C show complete-word show
bindkey '^I' show
bindkey '^U' kill-whole-line
print READY
"""
"""Within zsh only its line editor completes: one on a pseudo terminal, with a key that prints what is offered."""


def behind_a_break(word: str, offered: str) -> str:
    """Return what bash makes of a word: it puts an offer in the place of what stands behind the last = or : of it."""
    return word[: max(word.rfind("="), word.rfind(":")) + 1] + offered


def behind_what_it_knows(word: str, offered: str) -> str:
    """Return what zsh makes of a word: it was told how much of it is no part of the offer, as far as a = or a comma."""
    return offered if offered.startswith(word) else word[: max(word.rfind("="), word.rfind(",")) + 1] + offered


WHOLE = {"bash": behind_a_break, "zsh": behind_what_it_knows, "fish": lambda _word, offered: offered}


def completed(there: Path, shell: str) -> dict[str, set[str]]:
    """Complete the lines in a shell; return the words that it would have made of each line's last."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    (there / FILES[shell]).write_text(shells.script(shell))
    (there / "driver").write_text(DRIVERS[shell])
    (there / "inner").write_text(INNER_ZSH)
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [program, *flags, there / "driver"], input="".join(f"{line}\n" for line in LINES), cwd=there / "work",
        env={"PATH": f"{there}/bin:{os.environ['PATH']}", "HOME": str(there), "TERM": "dumb"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, set[str]] = {}
    line = ""
    for row in done.stdout.splitlines():
        if row.startswith("== "):
            line = row[3:]
            found[line] = set()
        elif row:
            found[line].add(WHOLE[shell](line.rpartition(" ")[2], row))
    return found


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_the_shell_completes_commands_flags_and_what_a_home_has(there: Path, shell: str):
    assert completed(there, shell) == LINES
    asked = (there / "asked").read_text().splitlines()
    assert f"--home {there}/x --tenant a --hub off --timeout 2s -q pool list --limit 100 --ids" in asked
    assert all("--timeout 2s -q" in line and line.endswith("--ids") for line in asked), "it could hang, or say things"
    assert any(line.endswith("pool items lint --limit 100 --status claimed --ids") for line in asked)


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_the_scripts_are_right_for_the_shells_that_are_here(there: Path, shell: str):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    (there / "script").write_text(shells.script(shell))
    done = subprocess.run([program, "-n", there / "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_scripts_ask_for_is_answered_with_ids(fedctl: CommandLine):
    episode = fedctl.store("one")
    fedctl("pool", "push", "p", "1")
    fedctl("worker", "register", "w")
    item = fedctl("pool", "claim", "p", "--worker", "w", "--ids").out.strip()
    backup = fedctl("backup", "create", "--ids").out.strip()
    answers = {name: fedctl(*command.split(), "--ids", "-q", "--timeout", "2s") for name, command in ASKED.items()}
    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(ASKED, 0)
    found = {name: answer.out.split() for name, answer in answers.items()}
    assert found | {"setting": [], "token": []} == {
        "agent": [], "backup": [backup], "episode": [episode], "pool": ["p"], "setting": [], "tenant": ["default"],
        "token": [], "worker": ["w"],
    }  # fmt: skip
    assert "tenant" in found["setting"]
    for flags, ids in ((ITEMS["item"], [item]), (ITEMS["claimed"], [item]), (ITEMS["poisoned"], [])):
        assert fedctl("pool", "items", "p", "--limit", "100", *flags.split(), "--ids").out.split() == ids


def test_a_flag_that_takes_a_file_a_folder_or_a_name_is_completed_with_them():
    of_value = {
        (one.name, option.spellings[-1]): shells.kind_of(option)
        for one in tree.walk()
        for option in one.options
        if option.metavar in ("FILE", "F", "DIR", "POOL", "POOL JSON")
    }
    assert of_value
    assert {key for key, kind in of_value.items() if not kind} == set(), "say in shells.py what completes it"


def test_the_script_is_printed(fedctl: CommandLine):
    for shell in shells.SHELLS:
        assert fedctl("completion", shell).out == shells.script(shell)


NEXT = {"bash": "~/.bashrc needs: source ", "zsh": "before compinit: fpath=(", "fish": "new shells have it"}


@pytest.mark.parametrize(
    ("shell", "variables", "place"),
    [
        ("bash", {}, ".local/share/bash-completion/completions/fedctl"),
        ("bash", {"BASH_COMPLETION_USER_DIR": "/own"}, "own/completions/fedctl"),
        ("zsh", {"XDG_DATA_HOME": "/data"}, "data/zsh/site-functions/_fedctl"),
        ("fish", {"XDG_CONFIG_HOME": "relative"}, ".config/fish/completions/fedctl.fish"),
    ],
)
def test_install_puts_the_script_where_the_shell_looks_and_nothing_else(
    fedctl: CommandLine, tmp_path: Path, shell: str, variables: dict[str, str], place: str
):
    below = {name: f"{tmp_path}{value}" if value.startswith("/") else value for name, value in variables.items()}
    for said in ("", "it was there already; "):
        result = fedctl("completion", shell, "--install", environ={"HOME": str(tmp_path), **below})
        assert result.code == 0
        assert result.out == f"{tmp_path / place}\n"
        assert result.err.startswith(f"note: {said}")
        assert NEXT[shell] in result.err
    assert (tmp_path / place).read_text() == shells.script(shell)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / place]


def test_an_older_script_is_replaced_and_a_linked_one_stays_a_link(fedctl: CommandLine, tmp_path: Path):
    link = tmp_path / ".config/fish/completions/fedctl.fish"
    link.parent.mkdir(parents=True)
    (tmp_path / "kept.fish").write_text("# an older one")
    link.symlink_to(tmp_path / "kept.fish")
    assert "already" not in fedctl("completion", "fish", "--install", environ={"HOME": str(tmp_path)}).err
    assert link.is_symlink()
    assert (tmp_path / "kept.fish").read_text() == shells.script("fish")


def test_where_nothing_can_be_written_it_says_what_else_there_is(fedctl: CommandLine, tmp_path: Path):
    (tmp_path / ".config").write_text("a file")
    result = fedctl("completion", "fish", "--install", environ={"HOME": str(tmp_path)})
    assert result.code == 1
    assert "cannot write" in result.err
    assert "> FILE" in result.err
