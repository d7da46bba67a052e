"""What each proof of this folder backs, in the words of the promise. A module, not a program."""

BACKS = {
    "crash": "acked means kept: kill -9 of hub, writers, agents, commands",
    "damage": "damage is found, named and survived; a database is never modified or replaced",
    "disk": "a full disk: read-only before it is full, what frees space goes on",
    "erase": "erased: no byte of the text is in the home, on a full disk too",
    "flood": "bounded before auth, bounded queues, others are answered",
    "fuzz": "limits and errors as documented, whatever the bytes",
    "index": "damage to an index is found, and it is rebuilt",
    "keep": "backups under load are whole and verify, keep rules hold",
    "net": "whatever network and clocks do, all arrives once, or is said; nothing is held by two",
    "pools": "no item is held by two; a dead worker's items come back",
    "power": "acked means kept: power cuts",
    "race": "every acked effect is visible once, whoever else is at it",
    "restore": "restore swaps atomically; what was erased stays erased",
    "soak": "the hub stays as it is: memory, descriptors, latency",
    "writers": "acked means kept: many writers at once, on every way in",
}
