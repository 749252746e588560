"""The hosts of a stack as a picture: who speaks to whom, on which ports. As text, and as SVG for the report."""

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory

TIERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("web", ("web",)),
    ("app", ("app",)),
    ("data", ("cache", "pooler", "database")),
    ("monitor", ("monitor",)),
)
WIDTH, HEIGHT, GAP, ROW = 190, 74, 24, 136
"""Pixels: a host's box, the gap beside it, and from one row of hosts to the next."""
TEXT_WIDTH = 100


@dataclass(frozen=True)
class Tier:
    """Hosts of one row; ``ports`` is what the row above uses."""

    name: str
    hosts: tuple[str, ...]
    ports: str


def tiers(stack: "Inventory") -> list[Tier]:
    """Each host once, in the first row that one of its roles belongs to; a host that only builds in the last one."""
    placed: set[str] = set()
    found = []
    for name, roles in TIERS:
        mine = tuple(host for host in stack.with_role(*roles) if host not in placed)
        placed |= set(mine)
        if mine:
            found.append(Tier(name, mine, _ports(stack, name, mine)))
    if rest := tuple(host for host in stack.hosts if host not in placed):
        found.append(Tier("build", rest, f"SSH {stack.ssh.port}"))
    return found


def text(stack: "Inventory") -> str:
    """For the terminal, no wider than 100 columns where names allow it."""
    lines = [f"visitors of {stack.app.domain}"]
    for tier in tiers(stack):
        lines.append(f"   │ {tier.ports}")
        for host in tier.hosts:
            last = host == tier.hosts[-1]
            facts = stack.hosts[host]
            private = f" (inside {facts.private})" if facts.private else ""
            roles = ", ".join(facts.roles) or "builds"
            lines.append(f"   {'└' if last else '├'}── {host}  {facts.address}{private}  {roles}")
    return "\n".join(lines)


def svg(stack: "Inventory") -> str:
    """One <svg> element that brings its own style and follows the colours of the page (currentColor)."""
    rows = tiers(stack)
    widest = max(len(tier.hosts) for tier in rows)
    width, height = widest * (WIDTH + GAP) + GAP, (len(rows) - 1) * ROW + HEIGHT + 80
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Hosts of {escape(stack.app.name)}" font-family="system-ui, sans-serif" font-size="13" '
        f'fill="none" stroke="currentColor" style="max-width:{width}px;width:100%;height:auto">',
        _label(width / 2, 26, f"visitors of {stack.app.domain}", bold=True),
    ]
    above = [(width / 2, 36.0)]
    for at, tier in enumerate(rows):
        top = 70 + at * ROW
        left = (width - len(tier.hosts) * (WIDTH + GAP) + GAP) / 2
        middles = [left + number * (WIDTH + GAP) + WIDTH / 2 for number in range(len(tier.hosts))]
        parts += [
            f'<path d="M{x:.0f} {y:.0f}L{middle:.0f} {top}" stroke-opacity=".45"/>'
            for x, y in above
            for middle in middles
        ]
        parts.append(_label(width / 2, top - 10, tier.ports, small=True, over_lines=True))
        parts += [_box(stack, host, middle - WIDTH / 2, top) for host, middle in zip(tier.hosts, middles, strict=True)]
        above = [(middle, top + HEIGHT) for middle in middles]
    return "\n".join([*parts, "</svg>"])


def _ports(stack: "Inventory", tier: str, hosts: tuple[str, ...]) -> str:
    from roadbed.deploys.app import MAX_REPLICAS, SLOTS
    from roadbed.deploys.peers import PORTS

    if tier == "web":
        return "HTTP 80, HTTPS 443"
    if tier == "app":
        return f"HTTP {stack.app.port}-{stack.app.port + len(SLOTS) * MAX_REPLICAS - 1}"
    names = {"cache": "Redis", "pooler": "PgBouncer", "database": "PostgreSQL"}
    there = {role for host in hosts for role in stack.hosts[host].roles}
    shown = [f"{title} {', '.join(map(str, PORTS[role]))}" for role, title in names.items() if role in there]
    return "; ".join(shown) or "metrics"


def _box(stack: "Inventory", host: str, x: float, y: float) -> str:
    facts = stack.hosts[host]
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="10" '
        'fill="currentColor" fill-opacity=".06"/>'
        + _label(middle, y + 24, host, bold=True)
        + _label(middle, y + 43, facts.address)
        + _label(middle, y + 61, ", ".join(facts.roles) or "builds", small=True)
    )


def _label(x: float, y: float, words: str, *, bold: bool = False, small: bool = False, over_lines: bool = False) -> str:
    style = (' font-weight="600"' if bold else "") + (' font-size="11.5"' if small else "")
    paper = "stroke:Canvas;stroke-width:6px;paint-order:stroke" if over_lines else "stroke:none"
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" fill="currentColor"{style} style="{paper}">'
        f"{escape(words)}</text>"
    )
