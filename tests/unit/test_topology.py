"""The pictures of the report: the hosts of a stack, and what each did when."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from roadbed.cli import timeline, topology
from roadbed.cli.html import write_html
from roadbed.engine.inventory import Inventory
from roadbed.engine.load import load

SVG = "{http://www.w3.org/2000/svg}"


def element(text: str) -> ElementTree.Element:
    """Raises ParseError for what is no XML."""
    return ElementTree.fromstring(text)  # noqa: S314  (our own)


@pytest.fixture(params=["rehearsal", "single"])
def stack(request: pytest.FixtureRequest, root: Path) -> Inventory:
    """The stacks that are rehearsed: on four hosts, and on one."""
    return load(str(root / f"inventories/{request.param}.yml"))


def test_every_host_stands_in_one_row(stack: Inventory) -> None:
    rows = topology.tiers(stack)
    assert sorted(host for row in rows for host in row.hosts) == sorted(stack.hosts)


def test_rows_are_the_way_of_a_request(root: Path) -> None:
    rows = topology.tiers(load(str(root / "inventories/rehearsal.yml")))
    assert [(row.name, row.hosts, row.ports) for row in rows] == [
        ("web", ("web-1",), "HTTP 80, HTTPS 443"),
        ("app", ("app-1", "app-2"), "HTTP 5000-5059"),
        ("data", ("data-1",), "Redis 6379, 6380; PgBouncer 6432; PostgreSQL 5432"),
    ]


def test_svg_has_a_box_for_every_host(stack: Inventory) -> None:
    drawn = element(topology.svg(stack))
    assert len(drawn.findall(f"{SVG}rect")) == len(stack.hosts)
    assert set(stack.hosts) <= {label.text for label in drawn.iter(f"{SVG}text")}


def test_text_fits_a_terminal_of_80_columns(stack: Inventory) -> None:
    lines = topology.text(stack).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(name in line for line in lines) for name in stack.hosts)


def operation(host: str, component: str, ended: float, seconds: float) -> dict[str, Any]:
    return {"host": host, "component": component, "name": "x", "status": "changed", "ended": ended, "seconds": seconds}


RUN = [
    operation("a", "base", 3.0, 3.0),
    operation("b", "base", 2.0, 1.5),
    operation("a", "base", 4.0, 1.0),
    operation("a", "nginx", 6.0, 1.5),
]


def test_operations_of_one_component_are_one_bar() -> None:
    assert timeline.bars(RUN) == [
        timeline.Bar("b", "base", 0.5, 2.0),
        timeline.Bar("a", "base", 0.0, 4.0),
        timeline.Bar("a", "nginx", 4.5, 6.0),
    ]


def test_bars_are_as_long_as_the_time() -> None:
    drawn = element(timeline.svg(RUN, ["a", "b"]))
    widths = {
        (title.text or "").rpartition(",")[0]: float(bar.attrib["width"])
        for bar in drawn.findall(f"{SVG}rect")
        if (title := bar.find(f"{SVG}title")) is not None
    }
    assert widths["a: base"] / widths["a: nginx"] == pytest.approx(4 / 1.5, rel=0.01)


def test_a_run_without_operations_is_drawn() -> None:
    element(timeline.svg([], ["a"]))


def test_the_report_downloads_nothing(stack: Inventory, tmp_path: Path) -> None:
    check = {"host": "*", "component": "x", "claim": "<b>", "passed": True, "problem": "", "measured": []}
    host = next(iter(stack.hosts))
    write_html(
        tmp_path / "report.html",
        stack,
        "phase3",
        checks=[{**check, "host": host}],
        timings=[("verify", 1.0)],
        operations=[operation(host, "base", 1.0, 1.0)],
    )
    text = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;" in text
    assert text.count("<svg") == 2
    for word in ("<script", "<link", "src=", "url(", "@import"):
        assert word not in text
