"""The demo's work, and what it is done on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedctl.demo import work
from fedctl.demo.run import find_modules
from fedctl.errors import UsageError


def child(*argv):
    done = subprocess.run([sys.executable, "-I", work.__file__, *argv], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_reading_a_module_says_what_it_is_made_of(tmp_path):
    file = tmp_path / "one.py"
    file.write_text(
        '"""First line.\n\nMore."""\nimport os, re\nfrom json import loads\nclass A:\n    def b(self):\n        pass\n'
    )
    found = work.read(file)
    assert found["imports"] == ["json", "os", "re"]
    assert (found["functions"], found["classes"], found["lines"]) == (1, ["A"], 8)
    assert (found["docstring"], found["longest_function"], found["longest_function_lines"]) == ("First line.", "b", 2)


def test_compiling_a_module_measures_it(tmp_path):
    file = tmp_path / "one.py"
    file.write_text("def f():\n    return [x for x in range(3)]\n")
    found = work.compile_(file)
    assert found["code_bytes"] > 0
    assert found["compile_ms"] > 0


def test_what_is_pointed_at_is_never_run(tmp_path):
    file = tmp_path / "evil.py"
    file.write_text(f'open({str(tmp_path / "ran")!r}, "w")\n')
    for kind in ("read", "compile"):
        code, out, _ = child(kind, str(file))
        assert code == 0
        assert json.loads(out)
    assert child("doctest", str(file))[0] != 0
    assert child("doctest", "evil")[0] != 0
    assert not (tmp_path / "ran").exists()


def test_doctests_of_the_fixed_list_are_run():
    code, out, _ = child("doctest", "heapq")
    assert code == 0
    assert json.loads(out)["examples"] > 0


def test_what_cannot_be_parsed_ends_with_a_reason(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("def (:\n")
    code, _, err = child("read", str(file))
    assert code
    assert "SyntaxError" in err


def test_the_standard_library_has_enough_to_work_on_and_begins_with_what_has_doctests():
    modules = find_modules(None)
    assert len(modules) == 40
    assert modules[0].name == "difflib"
    assert all(Path(one.path).is_file() for one in modules)


def test_a_folder_is_searched_for_python_files_by_their_dotted_names(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "mod.py").touch()
    (tmp_path / "readme.txt").touch()
    assert [one.name for one in find_modules(tmp_path)] == ["pkg", "pkg.mod"]


@pytest.mark.parametrize("what", ["nothing there", "a file", "no Python in it"])
def test_a_place_without_python_files_is_a_usage_error(tmp_path, what):
    place = tmp_path / "place"
    if what == "a file":
        place.touch()
    elif what == "no Python in it":
        place.mkdir()
    with pytest.raises(UsageError, match=r"Python file|folder"):
        find_modules(place)
