"""Who does the work of a host while it is patched: the order of the hosts, and what nobody does meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from roadbed.deploys.context import Context
from roadbed.deploys.peers import external, grouped

DELICATE = ("app", "web", "pooler", "cache", "database")
"""Roles in the order of patching: what others can do for a while first, what keeps data last."""
SERVICES = {"web": ("nginx", "libnginx"), "pooler": ("pgbouncer",), "cache": ("redis",), "database": ("postgresql",)}
"""Beginnings of the packages whose installation restarts what a role does. The app is not from a package."""
KERNEL = "linux-image"


@dataclass(frozen=True)
class Meanwhile:
    """What is so while a host is away: ``said`` in sentences, and ``lost`` for what nobody else does."""

    said: tuple[str, ...]
    lost: tuple[str, ...]


def in_order(contexts: Mapping[str, Context], hosts: list[str]) -> list[str]:
    """``hosts`` in the order in which they are patched: each by its most delicate role, else as in the inventory."""

    def rank(host: str) -> int:
        roles = contexts[host].inventory.roles_of(host)
        return max((DELICATE.index(role) + 1 for role in roles if role in DELICATE), default=0)

    return sorted(hosts, key=rank)


def askers_of(contexts: Mapping[str, Context], host: str) -> list[str]:
    """The web hosts whose nginx sends requests to the instances of ``host`` and to those of other hosts too."""
    return [web for web, others in _by_web_host(contexts, host).items() if others]


def stand_ins(contexts: Mapping[str, Context], host: str) -> list[str]:
    """The app hosts that get the requests of ``host`` meanwhile."""
    return list(dict.fromkeys(other for others in _by_web_host(contexts, host).values() for other in others))


def meanwhile(
    contexts: Mapping[str, Context], host: str, packages: tuple[str, ...] = (), *, reboot: bool = True
) -> Meanwhile:
    """What is so while ``host`` gets ``packages`` and, with ``reboot``, is away."""
    ctx = contexts[host]
    said: list[str] = []
    lost: list[str] = []
    for role in ctx.inventory.roles_of(host):
        if role not in _SENTENCES or not (role in ("app", "web") or ctx.reached("phase2")):
            continue
        sentence, alone = _SENTENCES[role](contexts, host)
        if reboot or packages_of(role, packages):
            (lost if alone else said).append(f"{role}: {sentence}")
        elif role == "app" and packages and not alone:  # it leaves the routing all the same
            said.append(f"{role}: {sentence}")
    return Meanwhile(tuple(said), tuple(lost))


def packages_of(role: str, packages: tuple[str, ...]) -> list[str]:
    """Those of ``packages`` whose installation restarts what ``role`` does."""
    return [name for name in packages if name.startswith(SERVICES.get(role, ()))]


def _by_web_host(contexts: Mapping[str, Context], host: str) -> dict[str, list[str]]:
    """Web host that sends to ``host`` -> the other app hosts it sends to."""
    ctx = contexts[host]
    found = {}
    for web in ctx.inventory.with_role("web"):
        apps = replace(ctx, name=web).app_hosts()
        if host in apps:
            found[web] = [app for app in apps if app != host]
    return found


def _app(contexts: Mapping[str, Context], host: str) -> tuple[str, bool]:
    others = stand_ins(contexts, host)
    mine = contexts[host].sizing(host).replicas
    rest = sum(contexts[host].sizing(other).replicas for other in others)
    alone = [web for web, apps in _by_web_host(contexts, host).items() if not apps and web != host]
    if alone:
        return f"{', '.join(alone)} sends to {host} alone: {mine} - {mine} = 0 instances", True
    if not others:
        return f"{host} serves with its own instances: {mine} - {mine} = 0", True
    return f"{mine + rest} - {mine} = {rest} instances serve, on {', '.join(others)}", False


def _web(contexts: Mapping[str, Context], host: str) -> tuple[str, bool]:
    hosts = contexts[host].inventory.with_role("web")
    others = [web for web in hosts if web != host]
    sums = f"{len(hosts)} - 1 = {len(others)} web hosts"
    if not others:
        return f"{sums}: the site is away", True
    return f"{sums} serve; who is still sent to {host}, by DNS or a balancer, finds nobody there", False


def _pooler(contexts: Mapping[str, Context], host: str) -> tuple[str, bool]:
    inventory = contexts[host].inventory
    hosts = inventory.with_role("pooler")
    users = [app for app in inventory.with_role("app") if app not in hosts and host == hosts[0]]
    if not users:
        return "no other host uses this PgBouncer", False
    return f"{', '.join(users)} use this PgBouncer and no other: 1 - 1 = 0 ways to the database", True


def _cache(contexts: Mapping[str, Context], host: str) -> tuple[str, bool]:
    ctx = contexts[host]
    hosts = ctx.inventory.with_role("cache")
    if external(ctx, "cache"):
        return "Redis is elsewhere", False
    if grouped(ctx):
        return f"{len(hosts)} - 1 = {len(hosts) - 1} cache hosts; a master on {host} moves within seconds", False
    return "1 - 1 = 0 cache hosts: each instance caches for itself, and sessions cannot be read", True


def _database(contexts: Mapping[str, Context], host: str) -> tuple[str, bool]:
    if external(contexts[host], "database"):
        return "PostgreSQL is elsewhere", False
    return "1 - 1 = 0 database hosts: what needs the database fails", True


_SENTENCES: dict[str, Callable[[Mapping[str, Context], str], tuple[str, bool]]] = {
    "app": _app,
    "web": _web,
    "pooler": _pooler,
    "cache": _cache,
    "database": _database,
}
