"""Sentinel: of three and more cache hosts one has the master of an instance; when it fails, they elect another.

Who is master is for Sentinel to know, not for the inventory. What it learns it keeps in ``LEARNT``, and Roadbed writes
there once, when a host joins. Sentinel and both instances start with files that ``redis-start`` makes of the settings
in /etc/redis and of that knowledge: a change of settings undoes no failover, and a failover changes no settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.operations import apt, files, systemd

from .files import DAEMON_RELOAD, settle, write_file, write_template
from .peers import INSTANCES, SENTINEL_PORT, grouped
from .redis_users import CHECK, SENTINEL, command_line, redis_version, sentinel_acl

if TYPE_CHECKING:
    from .context import Context

LEARNT = "/var/lib/redis/sentinel/sentinel.conf"
SETTINGS = "/etc/redis/roadbed-sentinel.conf"
USERS = "/etc/redis/roadbed-sentinel.acl"
START = "/usr/local/lib/roadbed/redis-start"
UNIT = "redis-sentinel"
MASK = f"/etc/systemd/system/{UNIT}.service"
KEPT = "/var/lib/redis/durable"
SINCE = (7, 0)
"""Redis before that has no users for Sentinel (6.2) and no address of its own to connect from (7.0)."""
DOWN_MS, FAILOVER_MS = 5_000, 15_000
"""Milliseconds of silence after which a master counts as down, and that one step of a failover may take."""


@dataclass(frozen=True)
class Knowledge:
    """What a host knows of the group. ``masters``: instance -> (epoch of the election, address of its master).

    ``data``: whether its durable instance holds something.
    """

    masters: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    data: bool = False


class GroupKnowledge(FactBase[Knowledge]):
    """``Knowledge`` of a host, from its files: none of its services has to run."""

    def command(self) -> str:
        lines = f"sed -n -E 's/^sentinel (monitor|config-epoch) /\\1 /p' {LEARNT} 2>/dev/null"
        # An append-only file of an empty instance: a base of less than 200 bytes, and nothing after it.
        kept = f"find {KEPT} -name '*.incr.aof' -size +0c -o -name '*.base.*' -size +300c -o -name '*.rdb' -size +300c"
        return f"{lines}; {kept} 2>/dev/null | sed 's/.*/data/;q'"

    def default(self) -> Knowledge:  # type: ignore[override]
        return Knowledge()

    def process(self, output: list[str]) -> Knowledge:
        words = [line.split() for line in output]
        at = {line[1]: line[2] for line in words if line[:1] == ["monitor"]}
        epochs = {line[1]: int(line[2]) for line in words if line[:1] == ["config-epoch"]}
        return Knowledge({name: (epochs.get(name, 0), at[name]) for name in at}, data=["data"] in words)


def masters(ctx: "Context", known: Mapping[str, Knowledge]) -> dict[str, str]:
    """Instance -> address of its master, for a host that joins; ``known``: what the hosts that answered know.

    The latest election counts. Where there was none yet, see ``_first``. Raises ValueError where a wrong guess
    would cost data.
    """
    votes: dict[str, tuple[int, str]] = {}
    for state in known.values():
        votes |= {name: max(vote, votes.get(name, vote)) for name, vote in state.masters.items()}
    latest = {name: address for name, (_, address) in votes.items()}
    if not latest:
        latest = dict.fromkeys(INSTANCES, _first(ctx, known))
    if gone := sorted(set(latest.values()) - set(_addresses(ctx))):
        raise ValueError(f"hosts: the master {', '.join(gone)} has not the role cache. Give it back to that host")
    if known[ctx.name].data and latest["durable"] != ctx.host.inside:
        raise ValueError(
            f"hosts/{ctx.name}: has data in {KEPT}, which the master {latest['durable']} would replace by its own. "
            "Stop redis-server@durable and move that folder away if it may go"
        )
    return latest


def _first(ctx: "Context", known: Mapping[str, Knowledge]) -> str:
    """Who begins as master: the host that has data, else the first of those with the oldest Redis.

    A replica reads what an older master sends, not what a newer one does.
    """
    hosts = ctx.inventory.with_role("cache")
    if silent := [host for host in hosts if host not in known]:
        raise ValueError(
            f"hosts: {', '.join(silent)} could not be asked who is master. The first run on a group of cache hosts "
            "needs all of them: bring them up, and leave out --limit"
        )
    full = [host for host in hosts if known[host].data]
    if len(full) > 1:
        raise ValueError(
            f"hosts: {' and '.join(full)} have data in {KEPT}, and one of them becomes the master of all. Stop "
            "redis-server@durable and move that folder away on those whose data may go"
        )
    first = full[0] if full else min(hosts, key=lambda host: redis_version(ctx, host))
    return ctx.inventory.hosts[first].inside


def _addresses(ctx: "Context") -> list[str]:
    return [ctx.inventory.hosts[host].inside for host in ctx.inventory.with_role("cache")]


def refuse_old_redis(ctx: "Context") -> None:
    """Raises ValueError when this host is one of a group and its Redis cannot be."""
    if grouped(ctx) and redis_version(ctx) < SINCE:
        raise ValueError(f"hosts/{ctx.name}: its Redis is older than 7.0. Use Debian 12, Ubuntu 24.04 or later")


def join(ctx: "Context") -> None:
    """Before the instances start: what ``redis-start`` needs to tell a master from a replica."""
    if not grouped(ctx):
        return
    refuse_old_redis(ctx)
    paths = {"learnt": LEARNT, "written": SETTINGS, "run": "/run"}
    values = {**paths, "instances": INSTANCES, "addresses": _addresses(ctx)}
    write_template("redis", START, ctx, values=values, mode="755", validate="sh -n {file}", debts=(UNIT,))
    folder = LEARNT.rpartition("/")[0]
    files.directory(name=f"Create {folder}", path=folder, user="redis", group="redis", mode="750")
    if context.host.get_fact(GroupKnowledge).masters:
        return
    hosts = ctx.inventory.with_role("cache")
    known = {host.name: host.get_fact(GroupKnowledge) for host in context.state.inventory if host.name in hosts}
    lines = [f"sentinel monitor {name} {at} {INSTANCES[name]} 2\n" for name, at in masters(ctx, known).items()]
    write_file(
        name="Name the masters to Sentinel",
        dest=LEARNT,
        content="".join(lines),
        mode="600",
        user="redis",
        group="redis",
        debts=(UNIT,),
    )


def watch(ctx: "Context") -> None:
    """After the instances have started: Sentinel, or none where one host has to do."""
    service, drop_in = f"{UNIT}.service", f"/etc/systemd/system/{UNIT}.service.d/roadbed.conf"
    if not grouped(ctx):
        systemd.service(name="Stop Sentinel", service=service, running=False, enabled=None)
        files.link(name="Keep Sentinel from starting", path=MASK, target="/dev/null")
        for path in (drop_in, LEARNT):  # with a new drop-in systemd reads the unit again, which ends the mask
            files.file(name=f"Remove {path}", path=path, present=False)
        return
    files.link(name="Let Sentinel start", path=MASK, target="/dev/null", present=False)
    write_template("redis", drop_in, ctx, values={"start": START, "learnt": LEARNT}, debts=(DAEMON_RELOAD, UNIT))
    write_file(
        name="Write the users of Sentinel",
        dest=USERS,
        content=sentinel_acl(ctx),
        mode="640",
        group="redis",
        validate=f"{CHECK} users {{file}}",
        debts=(UNIT,),
    )
    quorum = len(_addresses(ctx)) // 2 + 1
    numbers = {"port": SENTINEL_PORT, "quorum": quorum, "down_ms": DOWN_MS, "failover_ms": FAILOVER_MS}
    write_template(
        "redis",
        SETTINGS,
        ctx,
        values={**numbers, "user": SENTINEL, "instances": INSTANCES},
        mode="640",
        group="redis",
        validate=f"{CHECK} sentinel {{file}}",
        debts=(UNIT,),
    )
    settle(name="Have systemd read the unit of Sentinel", debt=DAEMON_RELOAD)
    apt.packages(name="Install Sentinel", packages=["redis-sentinel"], no_recommends=True)
    answers = f"{command_line(SENTINEL_PORT, 'ping')} | grep -q PONG"
    settle(name="Restart Sentinel on new settings", debt=UNIT, healthy=answers)
    systemd.service(name="Start Sentinel now and at boot", service=service, running=True, enabled=True)
