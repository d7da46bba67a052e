"""`fedctl demo`, in its shortest form: all its criteria hold, and it leaves nothing running or lying about."""

from __future__ import annotations

import pytest

BY_THE_CLOCK = {"all five agents connect", "average sync"}
"""What a machine that is busy with other tests may miss."""


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
    failed = {one["criterion"] for one in result["criteria"] if not one["ok"]}
    assert failed <= BY_THE_CLOCK, done.out + done.err
    assert (done.code, result["ok"]) == ((1, False) if failed else (0, True))
    assert list(temporary.glob("fedctl*")) == []
    assert not user.home.exists()
