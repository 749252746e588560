"""Connections to Redis and Sentinel of a host, as one of their users."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from roadbed.checks.resp import RedisClient
from roadbed.deploys.context import Context
from roadbed.deploys.peers import INSTANCES, SENTINEL_PORT
from roadbed.deploys.redis_users import ADMIN, REPLICA, SENTINEL

Connect = Callable[..., RedisClient]
SECRETS = {
    "admin": "redis_admin_password",
    "sentinel": "redis_sentinel_password",
    "replica": "redis_replica_password",
}


@contextmanager
def connections(ctx: Context, tunnel: Callable[[int], str]) -> Iterator[Connect]:
    """``connect("cache", "app")``: a connection to an instance, or to ``sentinel``, as a user or as nobody.

    Users are ``app``, ``admin``, ``sentinel``, ``replica`` and every other name, which needs a password.
    """
    with ExitStack() as opened:

        def connect(server: str, who: str = "", password: str | None = None) -> RedisClient:
            port = int(tunnel({**INSTANCES, "sentinel": SENTINEL_PORT}[server]).rpartition(":")[2])
            names = {"app": ctx.inventory.app.name, "admin": ADMIN, "sentinel": SENTINEL, "replica": REPLICA}
            app = "redis_cache_password" if server == "sentinel" else f"redis_{server}_password"
            secret = {**SECRETS, "app": app}.get(who, "")
            known = ctx.secret(secret) if password is None and secret else password or ""
            return opened.enter_context(RedisClient(port, names.get(who, who), known))

        yield connect


def is_replica(connect: Connect, instance: str) -> bool:
    """Whether the instance follows one on another host."""
    return bool(connect(instance, "admin").call("ROLE")[0] == "slave")
