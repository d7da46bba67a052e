"""The model of a store, and the episodes that wait for their vectors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import pytest

from fedctl.messages import memory as m
from fedctl.model.episode import EpisodeDraft
from fedctl.operations import embedding
from fedctl.recall.embedder import ON_BOARD, Embedder
from fedctl.recall.text import embedding_text


def active(bench):
    model = embedding.active_model(bench.context)
    assert model is not None
    return model


def test_an_episode_that_is_deleted_while_it_is_being_embedded_has_no_vector(bench):
    class Slow:
        """While it thinks, somebody deletes what it thinks about."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.embedder, name)

        def embed(self, texts: Sequence[str], **how: int) -> Any:
            bench.call(m.DeleteEpisodes(ids=["b"]))
            return bench.embedder.embed(texts, **how)

    bench.keep("a", "b", "c")
    other = bench.another(embedder=Slow())
    assert embedding.embed_pending(other.context, budget_s=None) == 0
    assert bench.store.embeddings.count(bench.key(), active(bench).key) == 2
    assert bench.store.integrity() == []


def test_what_two_embed_at_once_has_one_vector(bench):
    class Slow:
        """While it thinks, somebody else is done."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.embedder, name)

        def embed(self, texts: Sequence[str], **how: int) -> Any:
            embedding.embed_pending(bench.context, budget_s=None)
            return bench.embedder.embed(texts, **how)

    bench.keep("a", "b", "c")
    other = bench.another(embedder=Slow())
    assert embedding.embed_pending(other.context, budget_s=None) == 0
    assert bench.store.embeddings.count(bench.key(), active(bench).key) == 3


def test_embedding_stops_at_its_budget_and_takes_the_newest_first(make_bench, make_embedder, clock):
    bench = make_bench(embedder=make_embedder(clock=clock, cost_ms=10), clock=clock)
    bench.keep(*(f"e{n}" for n in range(100)))
    assert embedding.embed_pending(bench.context, budget_s=0.5) == 36
    assert {one.seq for one in bench.store.embeddings.queued(bench.key(), 100)} == set(range(1, 37))
    assert embedding.embed_pending(bench.context, budget_s=None, tenant_key=999) == 0
    assert embedding.embed_pending(bench.context, budget_s=None) == 0


@pytest.mark.parametrize("window", [8, 64, 128])
def test_long_episodes_are_embedded_to_the_end_by_a_model_that_reads_little_at_once(make_bench, tmp_path, window):
    """Where a head and the overlap fill the window there must be pieces all the same, or the queue never empties."""
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json"):
        shutil.copy(ON_BOARD / name, tmp_path / name)
    (tmp_path / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {window}}}')
    bench = make_bench(embedder=Embedder(tmp_path))
    bench.keep(EpisodeDraft(id="long", task="a long name for a task " * 20, input="some text to cut " * 40))
    assert embedding.embed_pending(bench.context, budget_s=None) == 0
    (episode,) = bench.call(m.ListEpisodes(with_vectors=True)).episodes
    assert 1 < len(episode.embedding.vectors) <= embedding.PIECES_MAX


def test_a_store_takes_the_model_at_hand_and_keeps_it(bench, make_embedder):
    assert embedding.active_model(bench.context) is None
    assert embedding.model_note(bench.context, None) is None
    with bench.store.write():
        mine = embedding.adopt_model(bench.context)
    other = bench.another(embedder=make_embedder("better", 16))
    with other.store.write():
        assert embedding.adopt_model(other.context) is None
        switched = embedding.adopt_model(other.context, switch=True)
    assert (mine.dim, switched.dim) == (24, 16)
    assert embedding.active_model(bench.context) == switched
    assert "better@0" in (embedding.model_note(bench.context, switched) or "")


# -- what is too long --------------------------------------------------------------------------------------------


def cut_episodes(bench, tenant: str = "default") -> int:
    return bench.call(m.MemoryStats(), tenant=tenant).cut_episodes


def text_of(bench, pieces: int) -> str:
    """Return a text that is cut into so many pieces."""
    text = "".join(f"{n:07d} " for n in range(2000 * pieces))
    for size in range(800 * (pieces - 1), len(text), 50):
        head, body = embedding_text(None, "t", text[:size], None, None)
        if len(bench.embedder.split(head, body, overlap=embedding.OVERLAP_TOKENS, most=pieces + 1)) == pieces:
            return text[:size]
    raise AssertionError


def test_an_episode_of_more_pieces_than_are_kept_is_counted_as_cut(bench):
    most = embedding.PIECES_MAX
    bench.keep(
        EpisodeDraft(id="short", task="t"),
        EpisodeDraft(id="all there is room for", task="t", input=text_of(bench, most)),
        EpisodeDraft(id="cut", task="t", input=text_of(bench, most + 1)),
    )
    bench.keep(EpisodeDraft(id="cut", task="t", input=text_of(bench, most + 1)), tenant="other")
    assert cut_episodes(bench) == 0  # nothing is known of it before it is embedded
    assert embedding.embed_pending(bench.context, budget_s=None) == 0
    assert (cut_episodes(bench), cut_episodes(bench, "other"), cut_episodes(bench, "unused")) == (1, 1, 0)
    kept = {one.id: len(one.embedding.vectors) for one in bench.call(m.ListEpisodes(with_vectors=True)).episodes}
    assert kept == {"short": 1, "all there is room for": most, "cut": most}
    bench.call(m.DeleteEpisodes(ids=["all there is room for"]))
    assert cut_episodes(bench) == 1
    bench.call(m.DeleteEpisodes(ids=["cut"]))
    assert (cut_episodes(bench), cut_episodes(bench, "other")) == (0, 1)


def test_what_is_cut_is_known_anew_when_another_model_embeds_it(bench, make_embedder):
    bench.keep(EpisodeDraft(id="long", task="t", input=text_of(bench, embedding.PIECES_MAX + 1)))
    bench.keep(EpisodeDraft(id="not so long", task="t", input=text_of(bench, 20)))

    def reindexed_with(name: str, max_tokens: int) -> int:
        embedder = make_embedder(name)
        embedder.max_tokens = max_tokens
        other = bench.another(embedder=embedder)
        other.call(m.Reindex(begin=True))
        while other.call(m.Reindex()).remaining:
            pass
        return cut_episodes(other)

    assert reindexed_with("fake", 256) == 1
    assert reindexed_with("reads more", 2560) == 0
    assert reindexed_with("reads little", 64) == 2
    assert reindexed_with("fake", 256) == 1


def test_what_was_deleted_while_it_was_embedded_is_not_counted_as_cut(bench):
    class Slow:
        """While it thinks, somebody deletes what it thinks about."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.embedder, name)

        def embed(self, texts: Sequence[str], **how: int) -> Any:
            bench.call(m.DeleteEpisodes(ids=["long"]))
            return bench.embedder.embed(texts, **how)

    bench.keep(EpisodeDraft(id="long", task="t", input=text_of(bench, embedding.PIECES_MAX + 1)))
    assert embedding.embed_pending(bench.another(embedder=Slow()).context, budget_s=None) == 0
    assert cut_episodes(bench) == 0
    assert bench.store.integrity() == []


def test_a_tenant_with_a_long_queue_does_not_keep_the_others_from_being_embedded(bench):
    bench.keep("mine", tenant="small")
    bench.keep(*(f"e{number}" for number in range(200)), tenant="large")
    embedding.embed_pending(bench.context, budget_s=0.0)  # one slice: what is newest of all is the large one's
    assert bench.store.embeddings.pending(bench.key("small")) == 0
    assert 0 < bench.store.embeddings.pending(bench.key("large")) < 200


def test_with_more_tenants_waiting_than_go_into_a_slice_all_are_embedded_in_the_end(bench):
    for number in range(40):
        bench.keep("e", tenant=f"t{number}")
    assert embedding.embed_pending(bench.context, budget_s=None) == 0
