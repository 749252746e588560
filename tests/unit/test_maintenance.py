"""Maintenance without a host: settings, what nginx is told, pages that cannot be shown, and the command's mistakes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from roadbed.cli import main
from roadbed.cli.maintenance import Wanted, checked
from roadbed.deploys import maintenance, nginx
from roadbed.deploys.render import render
from roadbed.engine.errors import InventoryError

MakeContext = Callable[..., Any]
ROUTE = "/var/lib/roadbed/shop/route"


def configuration(ctx: Any) -> str:
    """The rendered nginx.conf."""
    return render("nginx", nginx.CONFIG, ctx, **nginx.values(ctx, True))


def location(text: str, name: str) -> str:
    """The block of a location of nginx.conf."""
    block = text[text.index(f"location {name} {{") :]
    return block[: block.index("\n        }\n")]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"allow": ["203.0.113.7/24"]}, "is not a network"),
        ({"allow": ["office"]}, "is not a network"),
        ({"retry_after": 0}, "greater than or equal"),
        ({"message": "x"}, "Extra inputs"),
    ],
)
def test_settings(make_context: MakeContext, block: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make_context(nginx={"maintenance": block})


def test_whatever_goes_to_the_app_is_closed(make_context: MakeContext) -> None:
    """Pages, also kept ones, images and POSTs; files from disk and the challenges of ACME stay open."""
    text = configuration(make_context())
    check = f"if (-f {ROUTE}/maintenance$roadbed_team) {{ return 503; }}"
    for name in ("@app", "@edge", "~ ^(?:/.+)?/_next/image/?$"):
        assert check in location(text, name), name
    assert text.count(check) == 3
    assert "error_page 503 /.roadbed/maintenance.html;" in text


def test_who_is_let_in(make_context: MakeContext) -> None:
    """The host itself, for rollouts and checks, and the team's networks: by the visitor's address, not a proxy's."""
    text = configuration(make_context(nginx={"maintenance": {"allow": ["203.0.113.0/24", "2001:db8::/32"]}}))
    found = re.search(r"geo \$roadbed_team {(.*?)}", text, re.DOTALL)
    assert found
    entries = [line.strip() for line in found[1].strip().splitlines()]
    assert entries == [
        'default "";',
        *(f"{network} .team;" for network in ("127.0.0.0/8", "::1/128", "203.0.113.0/24", "2001:db8::/32")),
    ]


def test_the_page_says_when_to_come_back(make_context: MakeContext) -> None:
    block = location(
        configuration(make_context(nginx={"maintenance": {"retry_after": 900}})), "= /.roadbed/maintenance.html"
    )
    for line in (
        "internal;",
        "add_header Retry-After 900 always;",
        "add_header Cache-Control no-store always;",
        f"try_files {ROUTE}/maintenance.html {maintenance.PAGE} =503;",
    ):
        assert line in block
    assert "shop.example.com is being worked on" in render("nginx", maintenance.PAGE, make_context())


def test_own_page(make_context: MakeContext, tmp_path: Path) -> None:
    inventory = make_context(nginx={"maintenance": {"page": "closed.html"}}).inventory
    inventory._path = tmp_path / "prod.yml"
    with pytest.raises(ValueError, match=r"^nginx/maintenance/page: .*closed\.html cannot be read: No such file"):
        maintenance.own_page(inventory)
    (tmp_path / "closed.html").write_text(" \n")
    with pytest.raises(ValueError, match="is empty"):
        maintenance.own_page(inventory)
    (tmp_path / "closed.html").write_bytes(b"x" * (maintenance.MOST_BYTES + 1))
    with pytest.raises(ValueError, match="Make it smaller"):
        maintenance.own_page(inventory)
    (tmp_path / "closed.html").write_text("<h1>closed</h1>")
    assert maintenance.own_page(inventory) == b"<h1>closed</h1>"
    assert maintenance.own_page(make_context().inventory) is None


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("maybe"), "maintenance: 'maybe' is neither on nor off"),
        (Wanted("off", Path("page.html")), "--page: is shown while maintenance is on"),
        (Wanted(None, Path("page.html")), "--page: is shown while maintenance is on"),
        (Wanted("on", Path("/nowhere/page.html")), "--page: /nowhere/page.html cannot be read"),
    ],
)
def test_mistakes(wanted: Wanted, said: str) -> None:
    """Found before the inventory is read, let alone a host asked."""
    with pytest.raises(InventoryError, match=said):
        checked(wanted)


def test_help_has_an_example() -> None:
    shown = CliRunner().invoke(main.app, ["maintenance", "--help"]).output
    assert "provision maintenance on -i prod" in " ".join(shown.split())
