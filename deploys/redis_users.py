"""The users of Redis and of Sentinel, as ACL files have them: each may do what it needs, and passwords are hashes.

The format: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/; what Sentinel and a replica
need: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/ ("Redis Access Control List
authentication").
"""

from hashlib import sha256
from typing import TYPE_CHECKING

from .peers import grouped

if TYPE_CHECKING:
    from .context import Context

VERSIONS = {"jammy": (6, 0), "bookworm": (7, 0), "noble": (7, 0)}
"""Redis of the supported suites; everything newer has at least 8.0."""
ADMIN, SENTINEL, REPLICA = "roadbed", "roadbed-sentinel", "roadbed-replica"
AUTH = "/etc/roadbed/redis.auth"
"""The password of the user ``roadbed``: readable by root alone, who could take everything anyway."""
CHECK = "/usr/local/lib/roadbed/redis-check"
HELLO = "__sentinel__:hello"
"""The channel on which Sentinels find one another."""
CACHE_COMMANDS = (
    *("get", "set", "del", "mget", "exists", "incr", "ttl", "pttl", "expire", "pexpire"),
    *("hget", "hset", "hmget", "hdel", "zadd", "zrangebyscore", "zremrangebyscore", "xadd", "xrange"),
    *("eval", "evalsha", "script|load", "time", "ping", "hello", "auth", "select", "info"),
    *("client|setname", "client|setinfo", "client|id"),
)
"""All that the cache handlers in runtime/ say to the cache instance, and what clients say when they connect."""
SINCE = {"client|setinfo": (7, 2)}
"""Commands that older servers do not know: one unknown name, and the whole list is refused."""
WATCHING = (
    *("ping", "info", "role", "hello", "auth", "publish", "subscribe", "multi", "exec", "slaveof"),
    *("config|rewrite", "client|setname", "client|kill", "script|kill"),
)
"""What Sentinel says to the instances it watches."""
FOLLOWING = ("psync", "replconf", "ping", "auth")
"""What a replica says to its master."""
AMONG_SENTINELS = ("ping", "publish", "hello", "auth", "client|setname", "sentinel|is-master-down-by-addr")
LOOKING_UP = (
    *("ping", "info", "role", "hello", "auth", "client|setname", "client|setinfo", "client|id"),
    *("subscribe", "psubscribe", "unsubscribe", "punsubscribe"),
    *(f"sentinel|{word}" for word in ("get-master-addr-by-name", "master", "masters")),
    *(f"sentinel|{word}" for word in ("replicas", "slaves", "sentinels")),
)
"""What clients of the app ask Sentinel; nothing that changes something."""


def redis_version(ctx: "Context", host: str | None = None) -> tuple[int, int]:
    """Version of the Redis that the distribution of ``host`` (default: this one) has, at least."""
    return VERSIONS.get(ctx.facts[host or ctx.name].codename, (8, 0))


def command_line(port: int, words: str) -> str:
    """Shell text that asks a server as the user ``roadbed``; the password comes from a file, not from an argv."""
    return f'REDISCLI_AUTH="$(cat {AUTH})" redis-cli --user {ADMIN} -p {port} {words}'


def acl(ctx: "Context", instance: str) -> str:
    """The users of an instance. Raises ValueError for an app whose name is one of Roadbed's own users.

    ``default`` is off, so that nobody gets in without a name. The app's commands on the cache are counted
    out and its keys have one prefix; on the durable instance it may do everything that is not dangerous.
    """
    name, channels = app_user(ctx), redis_version(ctx) >= (6, 2)
    if instance == "cache":
        may = f"~rb:{name}:* {'resetchannels ' * channels}{_only(ctx, CACHE_COMMANDS)}"
    else:
        may = f"~* {'&* ' * channels}+@all -@admin -@dangerous +info"
    users = {
        name: f"{_hashed(ctx, f'redis_{instance}_password')} {may}",
        ADMIN: f"{_hashed(ctx, 'redis_admin_password')} ~* {'&* ' * channels}+@all",
    }
    if grouped(ctx):
        users[SENTINEL] = f"{_hashed(ctx, 'redis_sentinel_password')} resetchannels &{HELLO} {_only(ctx, WATCHING)}"
        users[REPLICA] = f"{_hashed(ctx, 'redis_replica_password')} resetchannels {_only(ctx, FOLLOWING)}"
    return _file(users)


def sentinel_acl(ctx: "Context") -> str:
    """The users of Sentinel. The app asks it with the name and either password that it has for the instances."""
    both = " ".join(_hashed(ctx, f"redis_{instance}_password") for instance in ("cache", "durable"))
    users = {
        app_user(ctx): f"{both} &* {_only(ctx, LOOKING_UP)}",
        ADMIN: f"{_hashed(ctx, 'redis_admin_password')} ~* &* +@all",
        SENTINEL: f"{_hashed(ctx, 'redis_sentinel_password')} resetchannels &{HELLO} {_only(ctx, AMONG_SENTINELS)}",
    }
    return _file(users)


def _file(users: dict[str, str]) -> str:
    lines = ["user default off resetkeys -@all", *(f"user {user} on {rest}" for user, rest in users.items())]
    return "\n".join(lines) + "\n"


def _only(ctx: "Context", commands: tuple[str, ...]) -> str:
    version = redis_version(ctx)
    return "-@all " + " ".join(f"+{command}" for command in commands if version >= SINCE.get(command, (0, 0)))


def app_user(ctx: "Context") -> str:
    """Name of the app's user. Raises ValueError for one that is taken."""
    name = ctx.inventory.app.name
    if name in ("default", SENTINEL, REPLICA):
        raise ValueError(f"app/name: Redis keeps the name '{name}' for others than the app. Choose another")
    return name


def _hashed(ctx: "Context", secret: str) -> str:
    return f"#{sha256(ctx.secret(secret).encode()).hexdigest()}"
