"""The HTML report: one page that downloads nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory

TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_html(
    path: Path,
    stack: "Inventory",
    phase: str,
    *,
    checks: list[dict[str, Any]],
    timings: list[tuple[str, float]],
    operations: list[dict[str, Any]] | None = None,
) -> None:
    """Writes the report of a verification or rehearsal: hosts, every check with its measured values, times, changes."""
    from datetime import UTC, datetime

    from jinja2 import Environment, StrictUndefined

    from . import timeline, topology

    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = template.from_string(TEMPLATE.read_text()).render(
        stack=stack,
        topology=topology.svg(stack),
        timeline=timeline.svg(operations, list(stack.hosts)) if operations else "",
        phase=phase,
        phases=_phases(phase, checks),
        checks=checks,
        timings=timings,
        changed=[item for item in operations or [] if item["status"] == "changed"],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _phases(phase: str, checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each phase up to this one is for and adds, and how many of the checks of that hold."""
    from roadbed.deploys.phases import PHASES, PURPOSES, component_name

    rows: list[dict[str, Any]] = []
    known: set[str] = set()
    for name, parts in PHASES.items():
        added = [part for part in map(component_name, parts) if part not in known]
        known |= set(added)
        mine = [check["passed"] for check in checks if check["component"] in added]
        rows.append({"name": name, "purpose": PURPOSES[name], "adds": added, "holds": sum(mine), "checks": len(mine)})
        if name == phase:
            break
    return rows
