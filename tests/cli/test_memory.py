from __future__ import annotations

import csv
import json
import sqlite3
import stat

import pytest

from fedctl.bootstrap import open_caller
from fedctl.errors import DiskFull, Unavailable
from fedctl.messages.memory import EmbedPending, EmbedPendingAnswer


def test_a_stored_episode_is_answered_whole_and_found_again(fedctl):
    result = fedctl(
        "memory", "store", "--task", "fix login", "--input", "a", "--output", "b", "--reward", "0.9", "--critique", "c",
        "--session", "s1", "--agent", "a1", "--tokens-used", "12", "--latency-ms", "3.5", "--meta", "repo=api",
        "--meta", "n=1", "--meta", "ok=true", "--json",
    )  # fmt: skip
    assert result.code == 0
    episode = result.json
    assert episode["task"] == "fix login"
    assert episode["success"] is True
    assert episode["metadata"] == {"repo": "api", "n": 1, "ok": True}
    assert set(episode) == {
        "id", "tenant_id", "agent_id", "session_id", "task", "input", "output", "reward", "success", "critique",
        "tokens_used", "latency_ms", "metadata", "pinned", "created_at", "seq",
    }  # fmt: skip
    assert fedctl("memory", "get", episode["id"], "--json").json == episode
    assert fedctl("memory", "list", "--json").json == [episode]
    (hit,) = fedctl("memory", "query", "login", "--mode", "keyword", "--json").json
    assert hit.pop("rank") == 1
    assert hit.pop("score") > 0
    assert hit == episode


def test_explain_adds_what_made_the_score(fedctl):
    fedctl.store("fix login")
    (hit,) = fedctl("memory", "query", "login", "--mode", "keyword", "--explain", "--json").json
    assert set(hit["match"]) == {"semantic", "alone", "keyword", "reward", "index"}


def test_the_same_id_is_the_same_episode_or_a_conflict(fedctl):
    assert fedctl.store("one", "--id", "x") == "x"
    assert fedctl.store("one", "--id", "x") == "x"
    result = fedctl("memory", "store", "--task", "two", "--id", "x", "--json")
    assert (result.code, result.out, result.error["code"]) == (5, "", "conflict")


def test_a_deleted_id_is_acknowledged_and_not_stored_again(fedctl):
    fedctl.store("one", "--id", "x")
    assert fedctl("memory", "delete", "x").code == 0
    result = fedctl("memory", "store", "--task", "one", "--id", "x", "--json")
    assert result.code == 0
    assert result.json["deleted"] is True
    assert fedctl("memory", "get", "x").code == 4


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--reward", "nan"], "--reward"),
        (["--reward", "inf"], "--reward"),
        (["--reward", "1.01"], "--reward"),
        (["--reward", "x"], "--reward"),
        (["--latency-ms", "-1"], "--latency-ms"),
        (["--tokens-used", "9223372036854775808"], "--tokens-used"),
        (["--tokens-used", "1.5"], "--tokens-used"),
        (["--success", "maybe"], "--success"),
        (["--agent", "a/b"], "--agent"),
        (["--agent", ".."], "--agent"),
        (["--session", "x" * 300], "--session"),
        (["--id", ""], "--id"),
        (["--id", "a\nb"], "--id"),
        (["--meta", "novalue"], "--meta"),
        (["--input", "@/does/not/exist"], "--input"),
        (["--input", "\udcff"], "--input"),
        (["--output", "a\0b"], "--output"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_flag_and_nothing_is_made(fedctl, flags, named):
    result = fedctl("memory", "store", "--task", "t", *flags)
    assert result.code == 2
    assert named in result.err
    assert len(result.err.splitlines()) <= 3
    assert not fedctl.home.exists()


def test_an_episode_needs_a_task(fedctl):
    assert "--task is missing" in fedctl("memory", "store", "--reward", "1").err
    assert fedctl("memory", "store", "--task", " ").code == 2
    assert not fedctl.home.exists()


def test_values_come_from_stdin_from_a_file_or_literally(fedctl, tmp_path):
    (tmp_path / "in.txt").write_text("from\na file\n")
    result = fedctl(
        "memory", "store", "--task", "-", "--input", f"@{tmp_path}/in.txt", "--output", "@@x", "--json", stdin=b"t\n"
    )
    assert [result.json[name] for name in ("task", "input", "output")] == ["t", "from\na file\n", "@x"]


def test_stdin_is_for_one_value_only(fedctl):
    result = fedctl("memory", "store", "--task", "-", "--input", "-", stdin=b"t")
    assert result.code == 2
    assert "--task and --input" in result.err


def test_a_value_that_looks_like_a_flag_stays_a_value(fedctl):
    result = fedctl("memory", "store", "--task", "--json")
    assert result.code == 0
    assert "task\t--json\n" in result.out


def test_get_answers_what_is_there_and_names_what_is_not(fedctl):
    fedctl.store("one", "--id", "a")
    fedctl.store("two", "--id", "b")
    result = fedctl("memory", "get", "b", "nope", "a", "--json")
    assert result.code == 4
    assert [episode["id"] for episode in result.json] == ["b", "a"]
    assert result.error["details"] == {"missing": ["nope"]}
    alone = fedctl("memory", "get", "nope", "--json")
    assert (alone.code, alone.out) == (4, "")


def test_filters_choose_by_everything_they_name(fedctl):
    fedctl.store("old", "--agent", "a", "--session", "s", "--reward", "0.2", "--meta", "n=1", "--id", "x1")
    fedctl.store("new", "--agent", "b", "--reward", "0.9", "--meta", "n=2", "--meta", "repo=api", "--id", "x2")

    def ids(*flags):
        return fedctl("memory", "list", "--ids", *flags).out.split()

    assert ids() == ["x2", "x1"]
    assert ids("--agent", "a") == ["x1"]
    assert ids("--session", "s") == ["x1"]
    assert ids("--task", "new") == ["x2"]
    assert ids("--min-reward", "0.5") == ["x2"]
    assert ids("--where", "n>1") == ["x2"]
    assert ids("--where", "n<=2", "--where", "repo!=api") == ["x1"]
    assert ids("--since", "1h") == ["x2", "x1"]
    assert ids("--until", "1h") == []
    assert fedctl("memory", "list", "--where", "n~1").code == 2
    assert fedctl("memory", "list", "--since", "yesterday").code == 2


def test_a_list_is_cut_on_a_terminal_and_says_so(fedctl):
    lines = b"".join(b'{"task":"t%d"}\n' % number for number in range(60))
    assert fedctl("memory", "store", "--batch", stdin=lines).code == 0
    table = fedctl("memory", "list", terminal=True)
    assert "note: 50 of 60 shown" in table.err
    assert len(table.out.splitlines()) == 51
    assert "shown" not in fedctl("memory", "list").err
    assert len(fedctl("memory", "list").out.splitlines()) == 61
    assert "note: 7 of 60 shown" in fedctl("memory", "list", "--limit", "7").err
    assert "shown" not in fedctl("memory", "list", "--limit", "7", "-q").err


def test_a_batch_answers_each_line_in_its_place(fedctl):
    deep = b"[" * 100_000 + b"]" * 100_000
    lines = [
        b'{"task":"good","input":{"n":9223372036854775808,"m":123456789012345678901234567890,"f":1.5,"z":null}}',
        b"not json",
        b'""',
        b"[1]",
        b'{"task":"x","unknown":1}',
        b'{"task":"x","reward":"1"}',
        b'{"task":"x","reward":NaN}',
        b'{"task":"x","reward":2}',
        b'{"task":"x","input":"\\ud800"}',
        b'{"task":"\xff"}',
        b'{"task":"x","input":' + deep + b"}",
        b'{"task":"x","input":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"task":"x","input":"' + b"a" * 20_000_000 + b'"}',
        b'{"task":"x","input":"' + b"a" * 1_200_000 + b'"}',
        b'{"task":""}',
        b'{"task":"two\xc2\x85words\xe2\x80\xa8here"}',
        b'{"task":"last"}',
    ]
    result = fedctl("memory", "store", "--batch", stdin=b"\n".join(lines))
    assert result.code == 3
    answers = result.lines
    assert len(answers) == len(lines)
    good = {0, 15, 16}
    for number, answer in enumerate(answers):
        assert answer["ok"] is (number in good), answer
        if not answer["ok"]:
            assert answer["line"] == number + 1
            assert answer["error"]["code"] == "usage"
            assert answer["error"]["message"]
    kept = {episode["id"]: episode for episode in fedctl("memory", "list", "--json").json}
    assert set(kept) == {answers[number]["id"] for number in good}
    assert kept[answers[0]["id"]]["input"] == {
        "n": 9223372036854775808, "m": 123456789012345678901234567890, "f": 1.5, "z": None,
    }  # fmt: skip
    assert kept[answers[15]["id"]]["task"] == "two\x85words\u2028here"


def test_a_batch_line_goes_to_the_tenant_it_names_unless_another_was_chosen(fedctl):
    lines = b'{"task":"mine"}\n{"task":"theirs","tenant_id":"other"}\n{"task":"x","tenant_id":"no/pe"}\n'
    result = fedctl("memory", "store", "--batch", stdin=lines)
    assert [answer["ok"] for answer in result.lines] == [True, True, False]
    assert fedctl("--tenant", "other", "memory", "list", "--fields", "task", "--format", "tsv").out == "task\ntheirs\n"
    chosen = fedctl("memory", "store", "--batch", "--tenant", "default", stdin=lines)
    assert chosen.code == 3
    assert [answer.get("error", {}).get("code") for answer in chosen.lines] == [None, "denied", "denied"]


def test_batch_takes_no_flags_of_one_episode(fedctl):
    assert fedctl("memory", "store", "--batch", "--task", "x").code == 2
    assert fedctl("memory", "store", "--batch", "--fields", "id").code == 2


def test_delete_by_ids_tells_what_was_missing(fedctl):
    fedctl.store("one", "--id", "a")
    result = fedctl("memory", "delete", "a", "nope", "--json")
    assert result.code == 4
    kept = {"complete": None, "backups": [], "notes": []}
    assert result.json == {"deleted": 1, "ids": ["a"], "missing": ["nope"], "dry_run": False} | kept


def test_delete_by_filter_asks_a_person_and_refuses_where_there_is_none(fedctl):
    for number in range(3):
        fedctl.store("same", "--id", f"x{number}")
    nobody = fedctl("memory", "delete", "--task", "same")
    assert nobody.code == 2
    assert "--yes" in nobody.err
    no = fedctl("memory", "delete", "--task", "same", terminal=True, stdin=b"n\n")
    assert no.code == 2
    assert "3 episodes" in no.err
    dry = fedctl("memory", "delete", "--task", "same", "--dry-run", "--json")
    assert (dry.code, dry.json["deleted"], dry.json["dry_run"]) == (0, 3, True)
    assert len(fedctl("memory", "list", "--json").json) == 3
    yes = fedctl("memory", "delete", "--task", "same", terminal=True, stdin=b"y\n")
    assert yes.code == 0
    assert fedctl("memory", "list", "--json").json == []


def test_delete_goes_on_past_a_page(fedctl):
    lines = b"".join(b'{"task":"same"}\n' for _ in range(1100))
    fedctl("memory", "store", "--batch", stdin=lines)
    assert fedctl("memory", "delete", "--task", "same", "--yes", "--json").json["deleted"] == 1100
    assert fedctl("memory", "stats", "--json").json["episodes"] == 0


def test_delete_wants_ids_or_a_filter(fedctl):
    assert fedctl("memory", "delete").code == 2
    assert fedctl("memory", "delete", "a", "--task", "t", "-y").code == 2


def test_what_is_exported_can_be_imported_elsewhere(fedctl, tmp_path):
    fedctl.store("one", "--input", "a\tb\n\u2028", "--meta", "k=1")
    fedctl.store("two", "--reward", "0.25")
    exported = fedctl("memory", "export").out
    elsewhere = {"FEDCTL_HOME": str(tmp_path / "other")}
    answer = fedctl("memory", "import", "-", "--json", stdin=exported.encode(), environ=elsewhere)
    assert answer.json == {
        "lines": 2, "imported": 2, "existing": 0, "skipped": 0, "deleted": 0, "rejected": 0, "pending_embeddings": 0,
    }  # fmt: skip
    again = fedctl("memory", "export", environ=elsewhere).out
    assert [json.loads(line) | {"seq": 0} for line in exported.split("\n") if line] == [
        json.loads(line) | {"seq": 0} for line in again.split("\n") if line
    ]


ODD = 'tab\tnew\nline\r\n \u2028 \u2029 \u0085 \x0b\x0c\x1c quote" back\\ \u00a0 😀 e\u0301 \ufeff end'
EVERYTHING = {
    "id": "a b/ü", "task": ODD.replace("\n", " "), "input": ODD, "reward": 0.3, "success": False, "critique": ODD,
    "tokens_used": 5, "latency_ms": 1.5, "metadata": {"x": ODD, "n": 2**64, "t": True}, "pinned": True,
    "created_at": "2020-02-29T23:59:59.123Z", "agent_id": "a", "session_id": "s",
}  # fmt: skip


def write_sqlite(path, columns, row):
    connection = sqlite3.connect(path)
    connection.execute(f"create table runs ({', '.join(columns)})")
    connection.execute(f"insert into runs values ({', '.join('?' * len(row))})", row)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("name", ["runs.jsonl", "runs.json", "runs.csv", "runs.tsv", "runs.db"])
def test_every_form_of_file_keeps_every_field_and_character(fedctl, tmp_path, name):
    file = tmp_path / name
    whole = json.dumps(EVERYTHING, ensure_ascii=False)
    row = [json.dumps(value) if isinstance(value, dict) else value for value in EVERYTHING.values()]
    if name.endswith("db"):
        write_sqlite(file, EVERYTHING, row)
    elif name.startswith("runs.json"):
        file.write_bytes((whole + "\n" if name.endswith("l") else f"[{whole}]").encode())
    else:
        with file.open("w", encoding="utf-8", newline="") as text:
            csv.writer(text, delimiter="," if name.endswith("csv") else "\t").writerows([EVERYTHING, row])
    assert fedctl("memory", "import", str(file), "--no-embed").code == 0
    (exported,) = [json.loads(line) for line in fedctl("memory", "export").out.split("\n") if line]
    assert {field: exported[field] for field in EVERYTHING} == EVERYTHING


def test_an_export_with_vectors_is_imported_without_embedding_anything(fedctl, tmp_path):
    fedctl.store("one")
    fedctl.store("two", "--output", "and words " * 400)  # in several pieces
    assert fedctl("memory", "query", "one", "--fresh").code == 0
    exported = fedctl("memory", "export", "--with-vectors").out
    assert [len(json.loads(line)["embedding"]["vectors"]) > 1 for line in exported.splitlines()] == [False, True]
    elsewhere = {"FEDCTL_HOME": str(tmp_path / "other")}
    answer = fedctl("memory", "import", "-", "--no-embed", "--json", stdin=exported.encode(), environ=elsewhere)
    assert (answer.json["imported"], answer.json["pending_embeddings"]) == (2, 0)
    assert fedctl("memory", "export", "--with-vectors", environ=elsewhere).out == exported


def answering_pending(answer):
    """Return how to get a caller that asks the home everything but for vectors: to that it has its own answer."""

    def opened(settings, *, writes):
        caller = open_caller(settings, writes=writes)

        class Asked:
            calls = 0

            def call(self, request, *, tenant_id=None):
                if not isinstance(request, EmbedPending):
                    return caller.call(request, tenant_id=tenant_id)
                self.calls += 1
                return answer(self.calls)

            close = caller.close

        return Asked()

    return opened


def test_an_import_goes_on_until_what_it_stored_is_embedded_unless_told_otherwise(fedctl):
    lines = b'{"id":"a","task":"mine"}\n{"id":"b","task":"theirs","tenant_id":"acme"}\n'
    stored = fedctl("memory", "import", "-", "--no-embed", "--json", stdin=lines).json
    assert (stored["imported"], stored["pending_embeddings"]) == (2, 2)
    again = fedctl("memory", "import", "-", "--json", stdin=lines).json
    assert (again["existing"], again["pending_embeddings"]) == (2, 0)
    for tenant in ("default", "acme"):
        assert fedctl("--tenant", tenant, "memory", "stats", "--json").json["pending_embeddings"] == 0


def test_an_import_waits_for_a_hub_that_is_slow_and_not_without_end_for_one_that_does_nothing(fedctl):
    slow = answering_pending(lambda calls: EmbedPendingAnswer(pending=max(3 - calls // 100, 0), notes=[]))
    answer = fedctl("memory", "import", "-", "--json", stdin=b'{"task":"x"}', open_caller=slow)
    assert (answer.code, answer.json["pending_embeddings"], answer.err) == (0, 0, "")
    stuck = answering_pending(lambda calls: EmbedPendingAnswer(pending=7, notes=[]))
    answer = fedctl("memory", "import", "-", "--json", stdin=b'{"task":"x"}', open_caller=stuck)
    assert (answer.code, answer.json["pending_embeddings"]) == (0, 7)
    assert "7 episodes" in answer.err


def test_an_import_says_why_what_it_stored_is_not_embedded(fedctl):
    foreign = answering_pending(lambda calls: EmbedPendingAnswer(pending=7, notes=["another model's"] * (calls > 1)))
    answer = fedctl("memory", "import", "-", "--json", stdin=b'{"task":"x"}', open_caller=foreign)
    assert (answer.code, answer.json["pending_embeddings"], answer.err) == (0, 7, "note: another model's\n")

    def fails(error):
        def fail(calls):
            raise error

        return fedctl("memory", "import", "-", "--json", stdin=b'{"task":"x"}', open_caller=answering_pending(fail))

    away = fails(Unavailable("the hub is gone"))
    assert (away.code, away.json["pending_embeddings"]) == (0, None)
    assert "all is stored, and not embedded yet: the hub is gone" in away.err
    full = fails(DiskFull("no room"))
    assert (full.code, full.out, full.error["code"]) == (15, "", "disk_full")


def test_an_export_to_a_file_is_private_and_whole(fedctl, tmp_path):
    fedctl.store("one")
    target = tmp_path / "out.jsonl"
    answer = fedctl("memory", "export", str(target), "--json")
    assert answer.json == {"path": str(target), "episodes": 1, "size_bytes": target.stat().st_size}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".out*")) == []
    assert fedctl("memory", "export", str(tmp_path / "no" / "dir")).code == 2


def test_importing_twice_is_the_same_as_once_even_without_ids(fedctl, tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_bytes(b'{"task":"a"}\n{"task":"a"}\n\n{"task":"b"}\n')
    assert fedctl("memory", "import", str(file), "--json").json["imported"] == 3
    file.write_bytes(file.read_bytes() + b'{"task":"c"}\n')
    again = fedctl("memory", "import", str(file), "--json").json
    assert (again["imported"], again["existing"], again["lines"]) == (1, 3, 4)
    assert fedctl("memory", "stats", "--json").json["episodes"] == 4


def test_an_import_reports_each_refused_line_and_keeps_it_if_asked(fedctl, tmp_path):
    file, rejects = tmp_path / "runs.jsonl", tmp_path / "rejects.jsonl"
    file.write_bytes(b'{"task":"a"}\nnope\n{"task":"b","reward":7}\n')
    told = fedctl("memory", "import", str(file))
    assert told.code == 3
    assert told.err.startswith("line 2: ")
    assert "line 3: " in told.err
    kept = fedctl("memory", "import", str(file), "--rejects", str(rejects))
    assert (kept.code, kept.err) == (3, "")
    refused = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(one["line"], one["record"], one["error"]["exit"]) for one in refused] == [
        (2, "nope", 2), (3, '{"task":"b","reward":7}', 2),
    ]  # fmt: skip
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    assert fedctl("memory", "import", str(file), "--rejects", str(file)).code == 2


def test_an_import_passes_over_conflicts_if_asked(fedctl, tmp_path):
    fedctl.store("one", "--id", "x")
    file = tmp_path / "runs.jsonl"
    file.write_bytes(b'{"id":"x","task":"other"}\n{"id":"y","task":"new"}\n')
    assert fedctl("memory", "import", str(file)).code == 3
    skipped = fedctl("memory", "import", str(file), "--on-conflict", "skip", "--json")
    assert skipped.code == 0
    assert (skipped.json["skipped"], skipped.json["existing"]) == (1, 1)


def test_csv_cells_get_the_type_of_their_field(fedctl, tmp_path):
    file = tmp_path / "runs.csv"
    file.write_bytes(
        "\ufeffid,task,reward,success,tokens_used,input,metadata.repo,metadata.n\n"
        'x,"a, b",0.5,true,12,"two\nlines",api,7\n'
        ",plain,,,,,,\n"
        "y,bad,oops,,,,,\n"
        "z,wide,1,true,1,i,r,1,more\n".encode()
        + b"w,\xff,,,,,,\n"
    )
    result = fedctl("memory", "import", str(file), "--json")
    assert result.code == 3
    assert (result.json["imported"], result.json["rejected"]) == (2, 3)
    episode = fedctl("memory", "get", "x", "--json").json
    assert episode["reward"] == 0.5
    assert episode["success"] is True
    assert episode["tokens_used"] == 12
    assert episode["input"] == "two\nlines"
    assert episode["metadata"] == {"repo": "api", "n": 7}


def test_tables_with_foreign_columns_are_refused_before_anything_is_stored(fedctl, tmp_path):
    file = tmp_path / "runs.tsv"
    file.write_text("task\trewrad\nx\t1\n")
    result = fedctl("memory", "import", str(file))
    assert result.code == 2
    assert "did you mean reward?" in result.err
    assert not fedctl.home.exists()
    file.write_text("id\treward\nx\t1\n")
    assert "'task'" in fedctl("memory", "import", str(file)).err


def test_bytes_that_are_no_text_are_refused_row_by_row(fedctl, tmp_path):
    file, rejects = tmp_path / "runs.csv", tmp_path / "rejects.jsonl"
    file.write_bytes(b"task,success,metadata.n\none,true,1\ntwo,\x89,1\nthree,true,1,\x89\n\x89,true,1\n")
    result = fedctl("memory", "import", str(file), "--rejects", str(rejects), "--json")
    assert (result.code, result.json["imported"], result.json["rejected"]) == (3, 1, 3)
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [3, 4, 5]
    file.write_bytes(b"task,metadata.\xe7\none,1\n")
    assert fedctl("memory", "import", str(file)).code == 2
    database = tmp_path / "runs.db"
    connection = sqlite3.connect(database)
    connection.execute("create table runs (task text)")
    connection.executemany("insert into runs values (cast(? as text))", [(b"\xe7",), (b"four",)])
    connection.commit()
    connection.close()
    result = fedctl("memory", "import", str(database), "--json", "--rejects", str(rejects))
    assert (result.code, result.json["imported"], result.json["rejected"]) == (3, 1, 1)


def test_a_json_array_and_a_sqlite_table_are_imported(fedctl, tmp_path):
    array = tmp_path / "runs.json"
    array.write_text('[{"task":"a"},{"task":"b","x":1},3]')
    assert fedctl("memory", "import", str(array), "--json").json["imported"] == 1
    database = tmp_path / "runs.db"
    connection = sqlite3.connect(database)
    connection.execute("create table runs (id text, task text, reward real, success int, metadata text)")
    connection.execute("""insert into runs values ('s', 'sql', 0.5, 1, '{"a": 1}')""")
    connection.execute("create table others (task text)")
    connection.commit()
    connection.close()
    assert fedctl("memory", "import", str(database)).code == 2
    assert fedctl("memory", "import", str(database), "--table", "rnus").code == 2
    assert fedctl("memory", "import", str(database), "--table", "runs").code == 0
    episode = fedctl("memory", "get", "s", "--json").json
    assert (episode["success"], episode["metadata"]) == (True, {"a": 1})


def test_the_store_itself_is_not_opened_by_a_second_sqlite(fedctl):
    fedctl.store("one")
    result = fedctl("memory", "import", str(fedctl.home / "store.db"))
    assert result.code == 2
    assert "the home's own" in result.err


def test_a_file_that_does_not_show_what_it_is_needs_to_be_named(fedctl, tmp_path):
    file = tmp_path / "runs.dat"
    file.write_text("task\nx\n")
    assert "--from" in fedctl("memory", "import", str(file)).err
    assert fedctl("memory", "import", str(file), "--from", "csv").code == 0
    assert fedctl("memory", "import", str(tmp_path / "none")).code == 2


def test_stats_count(fedctl):
    fedctl.store("one")
    stats = fedctl("memory", "stats", "--json").json
    assert (stats["episodes"], stats["pending_embeddings"], stats["tenants"]) == (1, 1, 1)
    assert "index.form\t" in fedctl("memory", "stats").out


def test_reindex_embeds_what_waits(fedctl):
    fedctl.store("one")
    answer = fedctl("memory", "reindex", "--json")
    assert answer.code == 0
    assert (answer.json["embedded"], answer.json["remaining"]) == (1, 0)
    assert fedctl("memory", "stats", "--json").json["pending_embeddings"] == 0
    assert fedctl("memory", "reindex", "--model", str(fedctl.home / "nowhere")).code == 2


def test_reading_an_empty_home_says_how_to_begin(fedctl):
    for verb in (["list"], ["query", "x"], ["get", "x"], ["stats"], ["export"], ["delete", "x"]):
        result = fedctl("memory", *verb, "--json")
        assert (result.code, result.out) == (10, ""), verb
        assert result.error["code"] == "no_store"
        assert result.error["hint"]
    assert not fedctl.home.exists()


def test_an_unused_tenant_reads_as_empty(fedctl):
    fedctl.store("one")
    assert fedctl("--tenant", "unused", "memory", "list", "--json").json == []
    assert fedctl("--tenant", "unused", "memory", "query", "one", "--json").json == []


def test_quiet_is_silent_on_success_and_one_line_on_failure(fedctl, tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"task":"a"}\n')
    bad.write_text('{"task":"b"}\nnope\nnope\n')
    for argv in (
        ["init"], ["memory", "store", "--task", "x"], ["memory", "import", str(good)],
        ["memory", "export", str(tmp_path / "out")], ["memory", "delete", "--task", "a", "--yes"],
        ["config", "set", "color", "never"],
    ):  # fmt: skip
        result = fedctl(*argv, "-q")
        assert (result.code, result.out, result.err) == (0, "", ""), argv
    result = fedctl("memory", "import", str(bad), "-q")
    assert (result.code, result.out, result.err) == (3, "", "error: 2 of 3 lines were refused\n")
    assert fedctl("memory", "list", "-q").out
    assert fedctl("memory", "store", "--task", "x", "-q", "--ids").out


def test_a_field_that_is_nearly_one_is_told_which_it_may_be(fedctl):
    line = b'{"task": "t", "session": "s1"}\n'
    imported = fedctl("memory", "import", "-", stdin=line)
    assert imported.code == 3
    assert "'session' is not a field of this line (did you mean session_id?)" in imported.err
    stored = fedctl("memory", "store", "--batch", stdin=line)
    assert json.loads(stored.out)["error"]["hint"] == "did you mean session_id?"
    assert json.loads(fedctl("memory", "store", "--batch", stdin=b'{"task": 1}\n').out)["error"]["hint"] is None


def test_what_is_pinned_can_be_listed_and_is_counted(fedctl):
    for name in ("a", "b", "c"):
        fedctl.store(name, "--id", name)
    terminal = {"NO_COLOR": "1"}
    pinned = fedctl("memory", "pin", "a", "b", terminal=True, environ=terminal).out.splitlines()
    assert [line.split()[:2] for line in pinned] == [["ID", "PINNED"], ["a", "true"], ["b", "true"]]
    assert fedctl("memory", "list", "--pinned", "--ids").out == "b\na\n"
    cut = fedctl("memory", "list", "--pinned", "--limit", "1", terminal=True, environ=terminal)
    assert cut.err == "note: 1 of 2 shown\n"
