"""Checking that the store is whole and that what is derived from it agrees with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.messages import store as s
from fedctl.operations import embedding, index

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context


def check(ctx: Context, who: Principal, request: s.CheckStore) -> s.CheckAnswer:
    """Look for damage. Findings are of derived data or of the data themselves; nothing is changed."""
    if ctx.hub is not None and request.full:
        # On a connection of its own: what one that has long been open remembers of a table of words, which others
        # have merged since, looks like damage to SQLite's check.
        apart = ctx.fork()._replace(hub=None)
        try:
            return check(apart, who, request)
        finally:
            apart.close()
    checks = ["schema", "change log", "words", "vectors", "usage", "index files"]
    findings: list[s.Finding] = []
    with ctx.store.read():
        findings += _database(ctx, full=request.full)
        for key, name in ctx.store.tenants.all():
            findings += _tenant(ctx, key, name)
        episodes = ctx.store.episodes.count_everywhere()
    for key, name in ctx.store.tenants.all():
        wrong = index.verify_all(ctx, key, always=request.full)
        if wrong is not None:
            findings.append(_derived("index files", f"tenant {name}: {wrong}", "fedctl memory reindex"))
    if request.full:
        checks.insert(0, "database")
    return s.CheckAnswer(checks=checks, findings=findings, episodes=episodes)


def _database(ctx: Context, *, full: bool) -> list[s.Finding]:
    restore = "keep a copy of the home and restore a backup"
    found = []
    for line in ctx.store.integrity() if full else []:
        if "fts5" in line.lower():
            found.append(_derived("words", line, "fedctl memory reindex"))
        else:
            found.append(s.Finding(check="database", severity="data", message=line, fix=restore))
    found += [
        s.Finding(check="schema", severity="data", message=f"the migration {name} ran with another text", fix=restore)
        for name in ctx.store.altered_migrations()
    ]
    if ctx.store.changes.gap():
        found.append(s.Finding(check="change log", severity="data", message="a change is missing", fix=restore))
    unlogged = ctx.store.changes.unlogged_episodes()
    if unlogged:
        message = f"{unlogged} episodes are not in the change log"
        found.append(s.Finding(check="change log", severity="data", message=message, fix=restore))
    return found


def _tenant(ctx: Context, key: int, name: str) -> list[s.Finding]:
    found = []
    episodes, words = ctx.store.episodes.count(key), ctx.store.episodes.count_words(key)
    if episodes != words:
        message = f"tenant {name}: {episodes} episodes, words of {words}"
        found.append(_derived("words", message, "fedctl memory reindex"))
    counted, noted = ctx.store.episodes.counted_usage(key), ctx.store.tenants.usage(key)
    if counted != noted:
        message = f"tenant {name}: (episodes, bytes) are {counted}, its quota is reckoned with {noted}"
        found.append(_derived("usage", message, "fedctl memory reindex"))
    model = embedding.active_model(ctx)
    if model is not None:
        pending = ctx.store.embeddings.pending(key)
        embedded = ctx.store.embeddings.count_embedded(key, model.key)
        if embedded + pending != episodes:
            message = f"tenant {name}: {episodes} episodes, {embedded} embedded, {pending} waiting"
            found.append(_derived("vectors", message, "fedctl memory reindex"))
    return found


def _derived(check: str, message: str, fix: str) -> s.Finding:
    return s.Finding(check=check, severity="derived", message=message, fix=fix)
