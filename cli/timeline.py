"""What each host did when, as SVG for the report: a row a host, a bar for the time it spent on a component."""

from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, LEFT, ROW, BAR = 900, 90, 30, 18
"""Pixels: the picture, the names in front, a host's row, its bars."""
HUES = (210, 150, 35, 280, 0, 180, 90, 325, 60, 240)
LEAST_PIXELS = 1.5
TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


@dataclass
class Bar:
    """Time on one component without a pause; seconds since the run began."""

    host: str
    component: str
    begin: float
    end: float


def bars(operations: list[dict[str, Any]]) -> list[Bar]:
    """Operations that follow one another on a host in the same component become one bar."""
    found: list[Bar] = []
    last: dict[str, Bar] = {}
    for item in sorted(operations, key=lambda item: item["ended"]):
        begin = max(0.0, item["ended"] - item["seconds"])
        bar = last.get(item["host"])
        if bar and bar.component == item["component"]:
            bar.end = item["ended"]
        else:
            bar = last[item["host"]] = Bar(item["host"], item["component"], begin, item["ended"])
            found.append(bar)
    return found


def svg(operations: list[dict[str, Any]], hosts: list[str]) -> str:
    """One <svg> element in the colours of the page. ``operations`` are those of a run's JSON."""
    drawn = bars(operations)
    total = max((bar.end for bar in drawn), default=0.0) or 1.0
    hues = {name: HUES[at % len(HUES)] for at, name in enumerate(dict.fromkeys(bar.component for bar in drawn))}
    rows = {host: at for at, host in enumerate(hosts)}
    scale = (WIDTH - LEFT - 10) / total
    foot = len(hosts) * ROW + 16
    legend = -(-len(hues) // 6) * 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {foot + legend + 20}" role="img" '
        'aria-label="Time of each component on each host" font-family="system-ui, sans-serif" font-size="12" '
        'style="width:100%;height:auto">'
    ]
    step = next((tick for tick in TICKS if total / tick <= 8), TICKS[-1])
    for number in range(int(total // step) + 1):
        x = LEFT + number * step * scale
        parts.append(f'<path d="M{x:.1f} 0V{foot - 12}" stroke="currentColor" stroke-opacity=".15"/>')
        parts.append(_text(x, foot, f"{number * step} s", "middle"))
    parts += [_text(LEFT - 8, at * ROW + 19, host, "end") for host, at in rows.items()]
    for bar in drawn:
        width = max(LEAST_PIXELS, (bar.end - bar.begin) * scale)
        parts.append(
            f'<rect x="{LEFT + bar.begin * scale:.1f}" y="{rows[bar.host] * ROW + 6}" width="{width:.1f}" '
            f'height="{BAR}" rx="2" fill="hsl({hues[bar.component]} 60% 50%)">'
            f"<title>{escape(bar.host)}: {escape(bar.component)}, {bar.end - bar.begin:.1f} s</title></rect>"
        )
    for at, (name, hue) in enumerate(hues.items()):
        x, y = LEFT + at % 6 * 130, foot + 12 + at // 6 * 20
        parts.append(f'<rect x="{x}" y="{y}" width="11" height="11" rx="2" fill="hsl({hue} 60% 50%)"/>')
        parts.append(_text(x + 16, y + 10, name, "start"))
    return "\n".join([*parts, "</svg>"])


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="currentColor">{escape(words)}</text>'
