from __future__ import annotations

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedctl.model.limits import QUERY_MAX_BYTES
from fedctl.recall.text import STOP_WORDS, embedding_text, match_query, plain_text, query_terms, word_text


def indexed(*texts: str) -> apsw.Connection:
    """Return texts indexed the way a tenant's words are."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE VIRTUAL TABLE w USING fts5 (t, content = '', contentless_delete = 1, "
                       "tokenize = 'porter unicode61 remove_diacritics 2')")  # fmt: skip
    for number, text in enumerate(texts):
        connection.execute("INSERT INTO w (rowid, t) VALUES (?, ?)", (number, text))
    return connection


def found(connection: apsw.Connection, question: str) -> set[int]:
    match = match_query(query_terms(question))
    return (
        set()
        if match is None
        else {row[0] for row in connection.execute("SELECT rowid FROM w WHERE w MATCH ?", (match,))}
    )


INDEX = indexed("some words", "and others")


@settings(max_examples=300)
@given(st.text() | st.text("\"'*^:()-+{}[]\\ANDORNOTEAR abc\n\0_") | st.text("àé̀́İıſß名前हिन्दी⁵①𝔘"))
def test_no_question_is_a_syntax_error(question: str):
    found(INDEX, question)


@pytest.mark.parametrize(
    "question", ['"', "a AND", "NEAR(x", "col:", "-", "*", "^x", 'x" OR "y', "NOT", "{a b}:c", "\0", "'; drop"]
)
def test_what_means_something_to_fts5_means_nothing_here(question: str):
    found(INDEX, question)


def test_the_longest_question_is_searched_by_its_first_words():
    question = " ".join(f"w{number}" for number in range(QUERY_MAX_BYTES // 8))
    match = match_query(query_terms(question))
    assert match is not None
    assert match.count(" OR ") == 63
    found(INDEX, question)
    found(INDEX, "x" * QUERY_MAX_BYTES)


def test_a_word_of_a_thousand_parts_is_no_phrase_of_a_thousand_words():
    """Each part more makes a phrase slower to look for: 32,000 of them took 17 s over a thousand rows."""
    match = match_query(query_terms("a_" * (QUERY_MAX_BYTES // 2)))
    assert match is not None
    assert len(match) <= 130


@settings(max_examples=200)
@given(st.lists(st.text("abcdefxyzäöüéñßİ0123456789", min_size=3, max_size=10), min_size=1, max_size=6))
def test_a_text_is_found_by_each_of_its_words_in_any_case(words: list[str]):
    connection = indexed(" ".join(words))
    for word in words:
        assert found(connection, word) == {0}
        assert found(connection, f"what of {word}?") == {0}


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("İstanbul gezisi", "İstanbul"), ("İstanbul", "istanbul"), ("re\u0301sume\u0301", "résumé"), ("résumé",
        "re\u0301sume\u0301"),
        ("Café", "CAFE\u0301"), ("हिन्दी भाषा", "हिन्दी"), ("os.path.join fails", "os.path.join"), ("it's", "it's"),
        ("snake_case_name", "snake_case_name"),
    ],
)  # fmt: skip
def test_a_word_is_found_however_its_accents_and_signs_are_written(text: str, question: str):
    assert found(indexed(text, "something else"), question) == {0}


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("東京大学で機械学習を研究する", "東京"), ("東京大学で機械学習を研究する", "機械学習"),
        ("私は猫", "猫"), ("猫が好き", "猫"), ("データベースの接続エラー", "エラー"), ("학교에서 공부했다", "학교"),
        ("\uff83\uff9e\uff70\uff80\uff8d\uff9e\uff70\uff7d", "データベース"),
        ("か\u3099くせい", "がくせい"), ("การทดสอบระบบฐานข้อมูล", "ระบบ"), ("Привет мир, тестирование", "МИР"),
        ("修复bug的方法", "bug"), ("修复bug的方法", "方法"),
        ("\uff21\uff30\uff29 の設計", "api"), ("\U00020000\U00020001字", "\U00020001字"),
    ],
)  # fmt: skip
def test_scripts_without_spaces_are_found_by_any_two_characters(text: str, question: str):
    assert found(indexed(word_text(text), word_text("something else 別の話")), question) == {0}


def test_stop_words_are_left_out_unless_there_is_nothing_else():
    assert match_query(query_terms("how do I open the file")) == '"open" OR "file"'
    assert match_query(query_terms("To be or not to be")) == '"to" OR "be" OR "or" OR "not"'
    assert found(indexed("to be or not to be", "whether"), "to be or not to be") == {0}


def test_a_word_counts_once():
    assert match_query(query_terms("test Test TEST")) == '"test"'


def test_other_terms_count_but_find_nothing_and_all_scores_are_double():
    connection = indexed(*("common " * (n % 4) + "rare " * (n % 3) + "filler " * (n % 7) for n in range(60)))

    def scores(match: str | None) -> dict[int, float]:
        return dict(connection.execute("SELECT rowid, -rank FROM w WHERE w MATCH ?", (match,)))

    rare, both = scores(match_query(['"rare"'])), scores(match_query(['"rare"', '"common"']))
    narrow = scores(match_query(['"rare"'], ['"common"']))
    assert narrow.keys() == rare.keys() < both.keys()
    assert narrow == pytest.approx({number: 2 * both[number] for number in rare})


def test_the_longest_question_may_leave_out_any_number_of_its_terms():
    terms = query_terms(" ".join(f"{'a_' * 60}{number}" for number in range(100)))
    for kept in (1, len(terms) // 2, len(terms) - 1):
        INDEX.execute("SELECT rowid FROM w WHERE w MATCH ?", (match_query(terms[:kept], terms[kept:]),)).fetchall()


@given(st.text(st.characters(categories=["P", "Z", "Cc"])))
def test_a_question_without_words_searches_no_words(question: str):
    assert match_query(query_terms(question)) is None


def test_stop_words_are_words():
    assert all(word == word.lower() and word.isalpha() for word in STOP_WORDS)


@pytest.mark.parametrize("text", ["🤖fixed", "fixed₿100", "\u2066fixed\u2069", "(✅🧑\u200d💻)fixed🫠", "naïve🤖fixed"])
def test_a_word_beside_a_character_that_the_index_does_not_know_is_found(text: str):
    assert found(indexed(word_text(text)), "what was fixed?") == {0}


# -- the text in a value -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), ("as it is", "as it is"), (True, "true"), (False, "false"), (1, "1"), (2**70, str(2**70)), (1.5,
        "1.5"),
        ({"a": {"b": [1, None, "x"]}}, "a: b: 1\n\nx"), ([], ""), ({}, ""), (["a", ["b"]], "a\nb"),
    ],
)  # fmt: skip
def test_a_value_is_flattened_with_its_keys(value: object, text: str):
    assert plain_text(value) == text


def test_an_episode_s_text_says_who_and_on_what():
    assert embedding_text("ann", "fix it", {"file": "a.py"}, "done", "slow") == (
        "ann: fix it",
        "file: a.py\ndone\nslow",
    )
    assert embedding_text(None, "fix it", None, None, None) == ("fix it", "")
