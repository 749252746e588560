"""A machine that already does something: what Roadbed would replace there is listed, and left alone without --adopt.

Told apart by what is written down before the first change (``deploys/before.py``): packages of an interrupted first run
are not somebody else's.
"""

from collections.abc import Iterator

from roadbed.deploys.context import Context

from .preflight import Finding, Row
from .session import Session

WAY = "Move it to another machine, or say --adopt: what is replaced is kept, and provision remove puts it back"

SCRIPT = """
before=/var/lib/roadbed/before
left=/var/log/roadbed-left
theirs() {
  if [ -e $before/packages ]; then grep -qx "$1" $before/packages; return; fi
  if grep -qsx "$1" $left/packages; then return 1; fi
  dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'
}
for package in nginx redis-server pgbouncer; do
  if theirs $package && systemctl -q is-active $package; then echo "runs=$package"; fi
done
for site in /etc/nginx/sites-enabled/* /etc/nginx/conf.d/*.conf; do
  if [ -e "$site" ] && [ "${site##*/}" != default ]; then echo "site=$site"; fi
done
if grep -qsx /etc/postgresql $left/folders; then :
elif [ ! -e $before/packages ] || grep -q '^postgresql-[0-9]' $before/packages; then
  for cluster in /etc/postgresql/*/*; do if [ -d "$cluster" ]; then echo "cluster=$cluster"; fi; done
fi
if [ -e $before/packages ]; then known=$(cat $before/accounts); else known=$(cut -d: -f1 /etc/passwd); fi
for name in $known; do if [ "$name" = "$app" ]; then echo "account=$name"; fi; done
if [ -e "/srv/$app" ] && { [ ! -e $before/packages ] || grep -qx "/srv/$app" $before/folders; }; then
  echo "folder=/srv/$app"
fi
if grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf; then echo "firewall=ufw"; fi
if systemctl -q is-active firewalld; then echo "firewall=firewalld"; fi
true
"""


def check_conflicts(session: Session, ctx: Context, *, adopt: bool) -> list[Finding]:
    """Asks a host that this phase was not brought to yet; with ``adopt`` the answers are warnings. Changes nothing."""
    if ctx.me.phase == ctx.phase:
        return []
    said = session.read(f"app={ctx.inventory.app.name}\n{SCRIPT}", check=False).out
    found: dict[str, list[str]] = {}
    for key, value in (line.split("=", 1) for line in said.splitlines() if "=" in line):
        found.setdefault(key, []).append(value)
    return [Finding(ctx.name, *row) for row in judge(ctx, found, adopt=adopt)]


def judge(ctx: Context, found: dict[str, list[str]], *, adopt: bool) -> Iterator[Row]:
    """The conflicts among what a host has. ``found``: the answers of SCRIPT by their keys."""
    new, runs = not ctx.me.phase, found.get("runs", [])
    level = "warning" if adopt else "error"

    def row(what: str, message: str) -> Row:
        return what, "warning" if level == "warning" else "error", message if adopt else f"{message}. {WAY}"

    if new and "web" in ctx.host.roles and "nginx" in runs and (sites := found.get("site")):
        yield row("nginx", f"serves {', '.join(sites)}, and nginx.conf would be replaced")
    if new and "app" in ctx.host.roles:
        for name in found.get("account", []):
            yield row("account", f"there is a user {name} already, and the app would run as that one")
        for path in found.get("folder", []):
            yield row("folder", f"{path} is there already, and releases would go into it")
    if new and ctx.inventory.firewall.enabled:
        for other in found.get("firewall", []):
            message = f"{other} is active, and both would decide. Turn it off, or set firewall/enabled: false"
            yield "firewall", "error", message
    if ctx.reached("phase2") and ctx.me.phase in ("", "phase1"):
        yield from (row(*pair) for pair in _data(ctx, runs, found.get("cluster", [])))


def _data(ctx: Context, runs: list[str], clusters: list[str]) -> Iterator[tuple[str, str]]:
    inventory, roles = ctx.inventory, ctx.host.roles
    if "cache" in roles and not inventory.redis.external and "redis-server" in runs:
        yield "redis", "redis-server.service runs here, and would be stopped: Roadbed has two instances of its own"
    if "database" in roles and not inventory.postgres.external and clusters:
        yield "postgres", f"there is a cluster, {', '.join(clusters)}: its settings and access rules would be replaced"
    if "pooler" in roles and "pgbouncer" in runs:
        yield "pgbouncer", "PgBouncer runs here, and its settings would be replaced"
