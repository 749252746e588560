"""Arithmetic of database connections: what the app may ask for, what PgBouncer opens, what PostgreSQL allows."""

from dataclasses import dataclass

SUPERUSER = 3
"""superuser_reserved_connections of PostgreSQL: not for anybody else."""
DIRECT = 5
"""Connections left for migrations, the nightly backup, monitoring and a person who looks."""
SPARE_CLIENTS = 20
"""Clients of PgBouncer beside the app: its console, checks, monitoring."""

ROOMY = 500
"""Clients that PgBouncer lets in at least: an idle one costs 2 kB, a refused one is an error page."""


@dataclass(frozen=True)
class Demand:
    """What is asked for. ``instances``: of the app, over all hosts; ``pool``: connections of one of them.

    ``pool_size`` and ``max_client_conn`` are PgBouncer's, each host's own; None: solve them.
    """

    instances: int
    pool: int
    max_connections: int
    poolers: int = 1
    pool_size: int | None = None
    max_client_conn: int | None = None


@dataclass(frozen=True)
class Pools:
    """The solution for one PgBouncer. ``clients``: connections of the app while a rollout runs both releases."""

    clients: int
    max_client_conn: int
    pool_size: int
    available: int
    words: str

    def explain(self) -> str:
        """The sum in words, for the plan and for errors."""
        return self.words


def solve(demand: Demand) -> Pools:
    """Sizes of the pools.

    During a rollout the old and the new release run side by side, so every instance counts twice. Without
    a size in the inventory the pool is what the app can use, at most an equal share of what PostgreSQL has
    left. Raises ValueError, with the arithmetic and a way out, when that is impossible.
    """
    clients = 2 * demand.instances * demand.pool
    available = demand.max_connections - SUPERUSER - DIRECT
    sums = (
        f"2 x {demand.instances} instances x {demand.pool} (app/database/pool) = {clients} clients; "
        f"max_connections {demand.max_connections} - {SUPERUSER} for superusers - {DIRECT} for migrations, backup "
        f"and monitoring = {available} for {demand.poolers} PgBouncer"
    )
    share = available // demand.poolers
    if share < 1:
        raise ValueError(f"{sums}: none left for a pool. Raise postgres/max_connections")
    pool_size = min(clients, share) if demand.pool_size is None else demand.pool_size
    if pool_size > share:
        raise ValueError(
            f"{sums}, but {demand.poolers} x {pool_size} (pgbouncer/pool_size) = {demand.poolers * pool_size}. "
            f"Lower pgbouncer/pool_size to {share}, or raise postgres/max_connections "
            f"to {demand.poolers * pool_size + SUPERUSER + DIRECT}"
        )
    least = clients + SPARE_CLIENTS
    most = max(ROOMY, 2 * least) if demand.max_client_conn is None else demand.max_client_conn
    if most < least:
        raise ValueError(
            f"{sums}; with {SPARE_CLIENTS} others {least}, but pgbouncer/max_client_conn is {most}. "
            f"Raise it to {least}, or lower app/database/pool or app/replicas"
        )
    words = f"{sums}: each opens at most {pool_size}, and lets in {most} clients"
    return Pools(clients, most, pool_size, available, words)
