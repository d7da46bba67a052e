"""Backups: what one holds, what is known of it, and which are kept."""

from __future__ import annotations

import msgspec


class Sealing(msgspec.Struct, frozen=True, kw_only=True):
    """How a passphrase becomes a backup's key: scrypt (RFC 7914) with these costs and this salt, in hex."""

    n: int
    r: int
    p: int
    salt: str


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a backup as it was before it was compressed and sealed."""

    name: str
    size_bytes: int
    sha256: str


class TenantContent(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant in a backup: the SHA-256 that stands for its name (hex), and what it had."""

    sha256: str
    episodes: int
    items: int


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup's database holds, and the parts as they were. Sealed, where the backup is."""

    schema_version: int
    model: str | None
    epoch: str
    seq: int
    episodes: int
    items: int
    tenants: list[TenantContent]
    parts: list[Content]


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup, as far as it can be told without its passphrase.

    `sha256` is of the whole file. `verified_at` (RFC 3339) is when it was last found whole by this home; `error` why it
    is not, `restore_tested_at` when it was last restored beside itself and held what it says. `signed_by` is the
    fingerprint of the key that signed it, `own` whether that is this home's. What is sealed and what a damaged one says
    is None.
    """

    id: str | None
    created_at: str | None
    path: str
    size_bytes: int
    episodes: int | None
    items: int | None
    sha256: str | None
    schema_version: int | None
    model: str | None
    verified_at: str | None
    error: str | None = None
    sealed: bool = False
    own: bool = True
    signed_by: str | None = None
    parts: list[str] = []
    tenants: int | None = None
    epoch: str | None = None
    seq: int | None = None
    fedctl_version: str | None = None
    restore_tested_at: str | None = None


class Made(Backup, frozen=True, kw_only=True):
    """A backup that was made just now, and the ids of those that went for it by the keep rules."""

    pruned: list[str] = []


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the keep rules say of one backup: kept, and by which rules; none: it goes."""

    id: str
    created_at: str
    path: str
    size_bytes: int
    kept: bool
    reasons: list[str]


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the keep rules: how many were looked at, went and stayed, and how many each rule kept.

    `damaged` says what is wrong with those of this home that were left alone for it, a sentence each.
    """

    policy: dict[str, int]
    dry_run: bool
    examined: int
    removed: int
    kept: int
    reasons: dict[str, int]
    bytes_freed: int
    backups: list[Judged]
    damaged: list[str] = []


class KeepRules(msgspec.Struct, frozen=True, kw_only=True):
    """How many backups stay; 0 is no rule, -1 no end. A backup stays if any rule keeps it."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
