"""The machine and what fedctl stands on there: versions, SQLite, the model."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from fedctl.doctor.report import Found, broken, failure, note, ok, warning
from fedctl.errors import FedctlError

if TYPE_CHECKING:
    from fedctl.doctor.patient import Patient

PYTHON_LEAST = (3, 11)
SQLITE_LEAST = (3, 51, 3)
"""Before it, several processes that write could corrupt a database whose log is reset."""
SLOW_EMBEDDING_MS = 250.0
"""A short text takes 2 to 7 ms on a machine of these years: above this the model is of no use."""
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)(?:,<([0-9.]+))?")
_SAMPLE = "an agent stores what it has learned, and another one finds it"


def versions(_patient: Patient) -> Found:
    """Python and the libraries are those that fedctl was made for."""
    import importlib.metadata as installed

    from fedctl import __version__

    python = sys.version_info[:3]
    figures: dict[str, Any] = {"fedctl": __version__, "python": ".".join(map(str, python))}
    if python < PYTHON_LEAST:
        return failure(f"Python {figures['python']} is too old, 3.11 is the least", None, **figures)
    try:
        wanted = [one for one in installed.requires("fedctl") or () if "extra ==" not in one]
    except installed.PackageNotFoundError:
        return note(f"fedctl {__version__} is not installed as a package: its libraries were not compared", **figures)
    wrong = []
    for match in filter(None, map(_REQUIREMENT.match, wanted)):
        name, least, below = match.groups()
        try:
            found = installed.version(name)
        except installed.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        figures[name] = found
        if version(found) < version(least) or (below and version(found) >= version(below)):
            wrong.append(f"{name} is {found}, wanted {match[0].removeprefix(name)}")
    if wrong:
        return failure("; ".join(wrong), "python -m pip install --upgrade fedctl", **figures)
    return ok(f"fedctl {__version__}, Python {figures['python']}, {len(figures) - 2} libraries as wanted", **figures)


def version(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(one) for one in match[0].split(".")) if match else ()


def sqlite(_patient: Patient) -> Found:
    """SQLite is recent enough, and finds words."""
    from fedctl.store.database import sqlite_version

    found = sqlite_version()
    if version(found) < SQLITE_LEAST:
        wanted = ".".join(map(str, SQLITE_LEAST))
        return failure(
            f"SQLite {found} is older than {wanted}: concurrent writers may corrupt the store",
            "python -m pip install --upgrade apsw",
            sqlite=found,
        )
    upgrade = "python -m pip install --upgrade apsw"
    try:
        found_again = finds_words()
    except FedctlError as error:
        return failure(f"SQLite {found} has no search for words (FTS5): {error.message}", upgrade, sqlite=found)
    if not found_again:
        return failure(f"SQLite {found} does not find words (FTS5)", upgrade, sqlite=found)
    return ok(f"SQLite {found}, finds words (FTS5)", sqlite=found, fts5=True)


def finds_words() -> bool:
    """Return whether a store in memory finds an episode by another form of a word in it."""
    from fedctl.bootstrap import open_work
    from fedctl.client.local import LocalCaller
    from fedctl.messages.memory import QueryEpisodes, StoreEpisodes
    from fedctl.model.episode import EpisodeDraft
    from fedctl.model.principal import Principal

    caller = LocalCaller(open_work(None), Principal(tenant_id="default", role="owner"))
    try:
        caller.call(StoreEpisodes(episodes=[EpisodeDraft(id="e", task=_SAMPLE)]))
        return [hit.id for hit in caller.call(QueryEpisodes(text="storing", mode="keyword")).hits] == ["e"]
    finally:
        caller.close()


def model(patient: Patient) -> Found:
    """The model's files are as they were built, and a text is embedded in good time."""
    from fedctl.recall.text import TEXT_FORM

    embedder, clock = patient.embedder, patient.clock
    try:
        embedder.verify()
    except FedctlError as error:
        fix = "python -m pip install --force-reinstall --no-deps fedctl"
        return broken(error, fix if patient.settings.model is None else None)
    began_s = clock.monotonic_s()
    embedder.embed([_SAMPLE])  # the first one loads the model
    loaded_s = clock.monotonic_s()
    vector = embedder.embed([f"{_SAMPLE}."])[0]
    load_ms, embed_ms = (loaded_s - began_s) * 1000, (clock.monotonic_s() - loaded_s) * 1000
    figures: dict[str, Any] = {"model": embedder.model_id, "dimension": embedder.dim, "load_ms": round(load_ms, 1),
               "embed_ms": round(embed_ms, 1)}  # fmt: skip
    told = f"{embedder.model_id}, loaded in {load_ms:,.0f} ms, a text takes {embed_ms:.1f} ms"
    if abs(float(vector @ vector) - 1) > 0.01:  # noqa: PLR2004  what rounding may make of a length of 1
        return failure(f"{embedder.model_id} makes vectors that are not of length 1", None, **figures)
    if patient.can_open:
        used = patient.context.store.settings.get("model")
        if used is not None and used != f"{embedder.model_id}/t{TEXT_FORM}":
            return warning(f"the store is embedded with {used}, this fedctl uses {embedder.model_id}: searched by "
                           "words only", patient.command("memory reindex"), store_model=used, **figures)  # fmt: skip
    if embed_ms > SLOW_EMBEDDING_MS:
        return warning(f"{told}: that is slow", "top -o %CPU   # what else keeps the processor busy?", **figures)
    return ok(told, **figures)
