"""The hub's figures in Prometheus' text format: base units, counters that end in `_total`, no ids in labels.

https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from fedctl import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fedctl.hub.stats import Spread, Totals
    from fedctl.model.hub import HubStats


def metrics(stats: HubStats, totals: Totals) -> str:
    """Return the page."""
    families = [*_of_hub(stats, totals), *_of_store(stats), *_of_process(stats, totals)]
    return "\n".join(line for family in families for line in family) + "\n"


def _of_hub(stats: HubStats, totals: Totals) -> Iterator[list[str]]:
    yield _one("gauge", "fedctl_build_info", "The version that runs; always 1.", 1, f'{{version="{__version__}"}}')
    yield _one("gauge", "fedctl_uptime_seconds", "Time since the hub started.", stats.uptime_s)
    yield _one("gauge", "fedctl_connected_agents", "Agents with a session.", stats.connected_agents)
    yield _one("gauge", "fedctl_connections", "Sessions that are open, agents' or not.", stats.connections)
    yield _one("counter", "fedctl_sessions_total", "Sessions that were let in.", totals.sessions)
    yield _by(
        "counter", "fedctl_refusals_total", "Handshakes, requests and frames refused, by reason.",
        "reason", totals.refusals,
    )  # fmt: skip
    yield _by("counter", "fedctl_errors_total", "Errors answered, by code.", "code", totals.errors)
    yield _spread(
        "fedctl_operation_duration_seconds", "Time from a request's arrival to its answer, by operation.",
        {f'operation="{name}"': one for name, one in sorted(totals.operations.items())},
    )  # fmt: skip
    yield _by("gauge", "fedctl_queued_requests", "Requests that wait for a thread.", "queue", stats.queued)
    yield _one("gauge", "fedctl_in_flight_requests", "Requests taken and not answered.", stats.in_flight)
    yield _spread(
        "fedctl_commit_duration_seconds", "Time one commit took, its requests' work included.",
        {"": totals.commit_seconds},
    )  # fmt: skip
    yield _spread("fedctl_commit_requests", "Requests that one commit held.", {"": totals.commit_requests})
    yield _one("counter", "fedctl_acked_episodes_total", "Episodes acknowledged: on disk.", totals.acked_episodes)
    yield _one("counter", "fedctl_syncs_total", "Syncs that agents finished.", totals.syncs)
    yield _one("counter", "fedctl_events_total", "Entries of the change log seen, any process's.", totals.events)


def _of_store(stats: HubStats) -> Iterator[list[str]]:
    yield _one("gauge", "fedctl_episodes", "Episodes in the store.", stats.episodes)
    yield _one("gauge", "fedctl_tenants", "Tenants in the store.", stats.tenants)
    yield _one("gauge", "fedctl_pools", "Pools in the store.", stats.pools)
    yield _by("gauge", "fedctl_items", "Items in the store, by status.", "status", stats.items)
    yield _one("gauge", "fedctl_pending_embeddings", "Episodes that have no vector yet.", stats.pending_embeddings)
    yield _one(
        "gauge", "fedctl_index_age_seconds",
        "Time since that index file was brought up to date which lags most behind its rows; 0 when none does.",
        stats.index_age_s,
    )  # fmt: skip
    yield _one("gauge", "fedctl_store_bytes", "The database and its write-ahead log.", stats.store_bytes)
    yield _one("gauge", "fedctl_wal_bytes", "The write-ahead log.", stats.wal_bytes)
    yield _one("gauge", "fedctl_disk_free_bytes", "Free on the disk that holds the store.", stats.disk_free_bytes)
    yield _one(
        "gauge", "fedctl_store_read_only", "1 while writes are refused because the disk is nearly full.",
        stats.read_only,
    )  # fmt: skip


def _of_process(stats: HubStats, totals: Totals) -> Iterator[list[str]]:
    """Yield what every program tells of itself under these names."""
    yield _one("counter", "process_cpu_seconds_total", "CPU time, user and system.", time.process_time())
    yield _one("gauge", "process_start_time_seconds", "Since 1970, UTC.", totals.began_ms / 1000)
    yield _one("gauge", "process_resident_memory_bytes", "Resident memory.", stats.rss_bytes)
    try:
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  names to count
    except OSError:
        return  # a system without /proc
    yield _one("gauge", "process_open_fds", "Open file descriptors.", descriptors)


def _one(kind: str, name: str, text: str, value: float, labels: str = "") -> list[str]:
    return _family(kind, name, text, [f"{name}{labels} {value:.15g}"])


def _by(kind: str, name: str, text: str, label: str, values: Mapping[str, float]) -> list[str]:
    return _family(
        kind, name, text, (f'{name}{{{label}="{key}"}} {value:.15g}' for key, value in sorted(values.items()))
    )


def _spread(name: str, text: str, spreads: Mapping[str, Spread]) -> list[str]:
    """Return a family of histograms, by their labels."""
    lines = []
    for labels, one in spreads.items():
        before = labels + "," if labels else ""
        lines += [
            f'{name}_bucket{{{before}le="{bound:g}"}} {count}'
            for bound, count in zip(one.bounds, one.at_or_below, strict=True)
        ]
        after = f"{{{labels}}}" if labels else ""
        lines += [
            f'{name}_bucket{{{before}le="+Inf"}} {one.values}',
            f"{name}_sum{after} {one.total:.15g}",
            f"{name}_count{after} {one.values}",
        ]
    return _family("histogram", name, text, lines)


def _family(kind: str, name: str, text: str, samples: Iterable[str]) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]
