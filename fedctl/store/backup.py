"""What a backup says of the database in it: counted, so that what was restored can be held against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.model.backup import Contents, TenantContent
from fedctl.store.ledger import tenant_digest
from fedctl.store.queries import load

if TYPE_CHECKING:
    from fedctl.store.store import Store

_MODEL_SETTING = "model"


def contents(store: Store) -> Contents:
    """Return what the store holds, tenants by the digests of their names; inside `read`, for it to be of one moment."""
    tenants = [
        TenantContent(sha256=tenant_digest(name).hex(), episodes=episodes, items=items)
        for name, episodes, items in store.database.rows(_sql["tenants"])
    ]
    return Contents(
        schema_version=int(store.database.pragma("user_version")),
        model=store.settings.get(_MODEL_SETTING),
        epoch=store.settings.epoch(),
        seq=store.changes.last_seq(),
        episodes=sum(one.episodes for one in tenants),
        items=sum(one.items for one in tenants),
        tenants=tenants,
        parts=[],
    )


_sql = load("backup")
