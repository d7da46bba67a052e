"""Who is in a table of workers, and who is only in a list for programs."""

from __future__ import annotations


def test_a_person_is_shown_who_works_and_told_how_to_see_who_has_ended(fedctl):
    for worker in ("works", "lost", "ended"):
        fedctl("worker", "register", worker)
    fedctl("worker", "status", "lost", "lost")
    assert "note" not in fedctl("worker", "list", terminal=True).err
    fedctl("worker", "status", "ended", "terminated")
    shown = fedctl("worker", "list", terminal=True)
    assert {line.split()[0] for line in shown.out.splitlines()[1:]} == {"works", "lost"}
    assert shown.err == "note: --status terminated shows those that have ended\n"
    asked = fedctl("worker", "list", "--status", "terminated", terminal=True)
    assert [line.split()[0] for line in asked.out.splitlines()[1:]] == ["ended"]
    for form in ("--ids", "--format=tsv", "--json"):
        assert "ended" in fedctl("worker", "list", form).out
        assert "ended" in fedctl("worker", "list", form, terminal=True).out
