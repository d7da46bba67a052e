"""`fedctl demo`, in its shortest form: all its criteria hold, and it leaves nothing running or lying about."""

from __future__ import annotations

import pytest


@pytest.mark.long
def test_the_demo_holds_all_its_criteria_on_a_folder_of_ones_own(user):
    code = user.folder / "code"
    code.mkdir()
    (code / "good.py").write_text('"""Says hello."""\ndef hello():\n    return "hello"\n')
    (code / "broken.py").write_text("def (:\n")
    temporary = user.folder / "tmp"
    temporary.mkdir()
    done = user("demo", "--seconds", "1", "--path", str(code), "--json", TMPDIR=str(temporary))
    result = done.json
    assert len(result["criteria"]) == 12
    assert (done.code, result["ok"]) == (0, True), done.out + done.err
    assert all(one["ok"] for one in result["criteria"])
    assert list(temporary.glob("fedctl*")) == []
    assert not user.home.exists()
