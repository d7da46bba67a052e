"""The Python API of fedctl: agents that live for minutes, and the workers and pools behind them (`api.backends`).

    async with EphemeralAgent.spawn(tenant_id="acme", lifetime="2m") as agent:
        hits = await agent.query_memories("flaky tests", filter=EpisodeFilter(min_reward=0.5))
        await agent.store_episode("fix the flaky test", output="raised the timeout", reward=0.9)

What an agent answers with are frozen structs: a `Hit` has its `rank`, `score` and `episode`, an `Episode` what was
stored, a `Note` what was noted, and the `Ending` of a life, which `EphemeralAgent.destroy` returns, its counts. What
goes wrong is a `FedctlError`; its kinds (`Conflict`, `Denied`, `Unavailable`, ...) are in `fedctl.errors`, each with
`message`, `hint`, `code` and the `exit` code of the command line.

An agent goes through a hub, or through the home where none runs. The pools and workers of `api.backends` do not: they
are in the process (`memory`) or in a file (`sqlite`), which may be the `store.db` of a home, also while a hub runs on
it. To work for a hub elsewhere there is `fedctl pool work --hub URL -- CMD`.
"""

from fedctl.agent.plan import Ending
from fedctl.api.agent import EphemeralAgent
from fedctl.api.backends import create_registration_backend, create_work_backend
from fedctl.errors import FedctlError
from fedctl.model.agent import Note
from fedctl.model.episode import Episode, EpisodeFilter, Hit

__all__ = [
    "Ending",
    "EphemeralAgent",
    "Episode",
    "EpisodeFilter",
    "FedctlError",
    "Hit",
    "Note",
    "create_registration_backend",
    "create_work_backend",
]
