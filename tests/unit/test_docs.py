"""The documentation is true: its links lead somewhere, what it names exists, and the reference is whole.

Its commands: test_docs_commands.py. The pages that are generated: test_docs_generated.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
import yaml
from pydantic import BaseModel

from roadbed.cli.main import app as provision
from roadbed.deploys.firewall import AllowSettings
from roadbed.engine.inventory import Host, Inventory
from roadbed.engine.load import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "inventories/example.yml"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()
COMMAND: Any = typer.main.get_command(provision)
REQUIRED = {"app.name", "app.source", "app.domain", "hosts.address"}
CHOSEN = {*REQUIRED, "hosts.roles"}
"""Keys whose value in the example is an example: they have no default, or one that only a single host has."""


def commands(group: Any = COMMAND, words: tuple[str, ...] = ("provision",)) -> Iterator[str]:
    """Every command and group of commands, as it is typed."""
    for name, command in group.commands.items():
        yield " ".join((*words, name))
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))


@pytest.mark.parametrize("command", list(commands()))
def test_command_is_documented(command: str) -> None:
    texts = [page.read_text() for page in PAGES]
    assert any(re.search(rf"\b{re.escape(command)}\b", text) for text in texts), f"{command}: in no page"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    text = page.read_text()
    for target in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'\b(?:href|src)="([^"]+)"', text)]:
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if file.suffix == ".md" else []
        if not file.exists() or (anchor and anchor not in [slug(heading) for heading in headings]):
            broken.append(target)
    assert broken == []


def nav(entries: list[Any]) -> Iterator[str]:
    """The pages of the navigation of mkdocs.yml, in its order."""
    for entry in entries:
        for what in entry.values() if isinstance(entry, dict) else [entry]:
            yield from nav(what) if isinstance(what, list) else [str(what)]


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[1:])


def test_pages_of_the_site_link_to_nothing_outside_it() -> None:
    """What lies outside docs/ is not on the site: name it in code instead, as `README.md`."""
    outside = [
        f"{page.name}: {target}"
        for page in PAGES[1:]
        for target in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).resolve().is_relative_to(ROOT / "docs")
    ]
    assert outside == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake ([a-z][a-z-]*)\b(?=[`\n ]*)", code_of(page))}
    assert {"rehearse", "test"} <= named
    assert sorted(named - targets) == []


def code_of(page: Path) -> str:
    """What stands in code on a page: blocks and `inline`."""
    text = page.read_text()
    return "\n".join(
        [
            *re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL),
            *re.findall(r"`([^`\n]+)`", text),
        ]
    )


def test_files_and_tests_that_are_named_exist() -> None:
    """A page may claim only what it can point at: paths in the repository and names of tests."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    missing = []
    for page in PAGES:
        for word in re.findall(r"`([^`\s]+)`", page.read_text()):
            path = word.partition("::")[0].partition(":")[0]
            if "foo" in path:  # the component that a reader is about to write
                continue
            if re.fullmatch(r"(cli|deploys|docs|engine|machines|releases|runtime|templates|tests)/[\w./@-]+", path):
                missing += [] if (ROOT / path).exists() else [word]
            elif re.fullmatch(r"test_\w+", word):
                missing += [] if f"def {word}(" in tests or f"{word}.py" in tests else [word]
    assert missing == []


def fields(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, field) of every key an inventory may have, in the spelling of the file."""
    for name, field in model.model_fields.items():
        here = f"{place}.{field.alias or name}".lstrip(".")
        yield here, field
        inner = Host if here == "hosts" else AllowSettings if here == "firewall.allow" else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, here)


FIELDS = dict(fields(Inventory))


def example() -> str:
    """The reference, with the entry of firewall.allow that is written out as a comment."""
    text = EXAMPLE.read_text()
    entry = text[text.index("  # allow:\n") : text.index("  # Networks that may use SSH")]
    return text.replace(entry, re.sub(r"^  # ", "  ", entry, flags=re.MULTILINE))


def reference() -> dict[str, str]:
    """Place -> comment of every key in the reference."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    comment = ""
    for line in example().splitlines():
        if match := re.match(r"( *)(?:- )?([a-z_0-9-]+):", line):
            indent = len(line) - len(line.lstrip(" -"))
            stack = [(depth, name) for depth, name in stack if depth < indent] + [(indent, match[2])]
            found.setdefault(".".join(name for _, name in stack if name != "web-1"), comment)
        comment = line.strip().removeprefix("# ") if line.strip().startswith("#") else ""
    return found


def choices(annotation: Any) -> list[str]:
    own = [str(value) for value in get_args(annotation)] if get_origin(annotation) is Literal else []
    return own or [value for part in get_args(annotation) for value in choices(part)]


def test_reference_has_every_key_and_no_other() -> None:
    assert sorted(reference()) == sorted(FIELDS)


@pytest.mark.parametrize("place", FIELDS)
def test_reference_explains(place: str) -> None:
    """Each key has the model's description above it, its choices and its limits."""
    field, comment = FIELDS[place], reference()[place]
    assert comment.startswith(field.description), f"{place}: write '# {field.description}' above it"
    limits = [limit for mark in field.metadata for limit in (getattr(mark, "ge", None), getattr(mark, "le", None))]
    for word in [*choices(field.annotation), *(str(limit) for limit in limits if limit is not None)]:
        assert re.search(rf"\b{re.escape(word)}\b", comment), f"{place}: the comment must name {word}"


def test_reference_loads_and_shows_the_defaults() -> None:
    inventory = load(str(EXAMPLE))
    assert inventory.name == "example"
    shown = inventory.model_dump(mode="json", by_alias=True)
    host = {"address": "203.0.113.10", "roles": ["web", "app"]}
    least = {
        "app": {name: shown["app"][name] for name in ("name", "source", "domain")},
        "hosts": {"web-1": host},
    }
    assert shown == Inventory.model_validate(least).model_dump(mode="json", by_alias=True)
    assert {place for place, field in FIELDS.items() if field.is_required()} <= {
        *REQUIRED,
        "app",
        "hosts",
        "firewall.allow.port",
    }


def test_reference_shows_the_defaults_of_an_opening() -> None:
    entry = yaml.safe_load(example().replace("  allow: []\n", ""))["firewall"]["allow"][0]
    assert AllowSettings.model_validate(entry) == AllowSettings.model_validate({"port": entry["port"]})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_that_are_named_exist(page: Path) -> None:
    """`nginx.tls.mode` in a page is a key of the inventory."""
    blocks = "|".join(Inventory.model_fields)
    words = re.findall(rf"`((?:{blocks})(?:\.[a-z_]+)+)`", page.read_text())
    endings = (".tsx", ".conf", ".service", ".log")
    assert sorted({word for word in words if word not in FIELDS and not word.endswith(endings)}) == []
    assert len(words) > 20 or page != PAGES[0]
