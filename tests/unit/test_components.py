"""The house is whole: every component has all its pieces, and the rules of the code hold everywhere."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import meta
from pydantic import BaseModel

from roadbed.deploys.model import Settings
from roadbed.deploys.phases import PHASES, component_name
from roadbed.deploys.render import _ENVIRONMENT, TEMPLATES, render
from roadbed.engine.inventory import ROLES, Inventory

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cli", "deploys", "engine", "machines", "releases")
COMPONENTS = [component_name(part) for part in PHASES["phase3"]]
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CHECKS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests/checks").glob("test_*.py"))
LAYERS = {
    "deploys": {"deploys"},
    "engine": {"deploys", "engine"},
    "machines": {"deploys", "engine", "machines"},
    "releases": {"deploys", "engine", "releases"},
    "cli": {"cli", "deploys", "engine", "machines", "releases", "checks"},
}
"""What each package may import while it runs. Imports point one way: cli, releases and machines, engine, deploys."""
MOST_LINES = 250
GIVEN = {"ctx", "inventory", "app", "settings"}
"""Names that every template sees; see deploys/render.py."""


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(), str(module))


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_is_complete(name: str) -> None:
    """One name finds every piece of a component; the first that is missing is named with its place."""
    part = importlib.import_module(f"roadbed.deploys.{name}")
    settings = getattr(part, f"{name.capitalize()}Settings", None)
    field = Inventory.model_fields.get(name)
    example = yaml.safe_load((ROOT / "inventories/example.yml").read_text())
    headings = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
    source = (ROOT / f"deploys/{name}.py").read_text()
    pieces = {
        f"deploys/{name}.py: class {name.capitalize()}Settings(Settings)": isinstance(settings, type)
        and issubclass(settings, Settings),
        f"engine/inventory.py: a field {name} of that class": field is not None and field.annotation is settings,
        f"deploys/{name}.py: ROLES, a tuple of roles or ('*',)": set(part.ROLES) <= {*ROLES, "*"} and bool(part.ROLES),
        f"deploys/{name}.py: NEEDS, components that come before it": set(part.NEEDS)
        <= set(COMPONENTS[: COMPONENTS.index(name)]),
        f"deploys/{name}.py: def deploy(ctx)": callable(getattr(part, "deploy", None)),
        f"templates/{name}/": (TEMPLATES / name).is_dir() or f'("{name}", ' not in source,
        f"tests/checks/test_{name}.py": (ROOT / f"tests/checks/test_{name}.py").is_file(),
        f"README.md: a section '## {name}'": f"## {name}" in headings,
        f"inventories/example.yml: a block {name}": isinstance(example.get(name), dict),
    }
    assert [piece for piece, there in pieces.items() if not there] == []


def test_every_template_belongs_to_a_component() -> None:
    folders = {path.relative_to(TEMPLATES).parts[0] for path in TEMPLATES.rglob("*.j2")}
    components = {module.stem for module in MODULES if module.parts[0] == "deploys" and defines_deploy(module)}
    assert sorted(folders - components) == []


def defines_deploy(module: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "deploy" for node in tree(module).body)


def settings_of(model: type[BaseModel], seen: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every field of a settings model and of the models in it, with its place."""
    for name, field in model.model_fields.items():
        yield ".".join((*seen, name)), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_of(field.annotation, (*seen, name))


def test_every_setting_is_described() -> None:
    assert [place for place, field in settings_of(Inventory) if not field.description] == []


def plain_templates() -> list[tuple[str, str]]:
    """(component, path on the host) of the templates that need nothing but the context."""
    found = []
    for path in sorted(TEMPLATES.rglob("*.j2")):
        component, _, dest = path.relative_to(TEMPLATES).as_posix().removesuffix(".j2").partition("/")
        if not meta.find_undeclared_variables(_ENVIRONMENT.parse(path.read_text())) - GIVEN:
            found.append((component, f"/{dest}"))
    return found


@pytest.mark.parametrize("codename", ["bookworm", "trixie", "jammy", "noble", "resolute"])
@pytest.mark.parametrize(("component", "dest"), plain_templates(), ids=lambda value: value)
def test_template_renders(make_context: Callable[..., Any], component: str, dest: str, codename: str) -> None:
    """Strictly: a name that does not exist is an error. Templates that need values are rendered by their own tests."""
    text = render(component, dest, make_context(codename=codename))
    assert text.endswith("\n")
    assert "Roadbed" in text or text.startswith("<!"), "a host's administrator must see who wrote the file"


def own_operations() -> set[str]:
    return {
        node.name
        for module in MODULES
        for node in tree(module).body
        if isinstance(node, ast.FunctionDef) and any("operation" in ast.unparse(mark) for mark in node.decorator_list)
    }


def operation_calls(module: Path, own: set[str]) -> Iterator[ast.Call]:
    code = tree(module)
    foreign = {
        alias.asname or alias.name
        for node in ast.walk(code)
        if isinstance(node, ast.ImportFrom) and node.module == "pyinfra.operations"
        for alias in node.names
    }
    for node in ast.walk(code):
        if isinstance(node, ast.Call) and (
            (isinstance(node.func, ast.Name) and node.func.id in own)
            or (isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in foreign)
        ):
            yield node


def title(call: ast.Call) -> str:
    """The text of ``name=``, as far as it is written out; empty without one."""
    value = next((word.value for word in call.keywords if word.arg == "name"), None)
    if isinstance(value, ast.JoinedStr):
        value = value.values[0]
    if isinstance(value, ast.Constant):
        return str(value.value)
    return "" if value is None else "Written elsewhere"


def test_every_operation_has_a_name() -> None:
    """``name=`` is what people read while it runs: a sentence that begins with a capital letter."""
    own = own_operations()
    assert {"write_file", "settle", "guarded_file"} <= own
    calls = [
        (module, call) for module in MODULES if module.parts[0] == "deploys" for call in operation_calls(module, own)
    ]
    assert len(calls) > 50
    nameless = [f"{module}:{call.lineno}" for module, call in calls if not title(call)[:1].isupper()]
    assert nameless == []


def test_no_operation_runs_a_bare_command() -> None:
    """server.shell counts as a change on every run; an own operation with a fact decides."""
    shells = [str(module) for module in MODULES if "server.shell(" in (ROOT / module).read_text()]
    assert shells == []


def undocumented(module: Path) -> Iterator[str]:
    code = tree(module)
    if code.body and not ast.get_docstring(code):
        yield str(module)
    for node in code.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_" and not ast.get_docstring(node):
            yield f"{module}:{node.lineno}: {node.name}"


def test_everything_public_has_a_docstring() -> None:
    assert [place for module in MODULES for place in undocumented(module)] == []


def test_every_check_says_what_it_proves() -> None:
    """The docstring of a check is the claim that `provision verify` and the report print."""
    silent = [
        f"{module}: {node.name}"
        for module in CHECKS
        for node in tree(module).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_modules_are_small() -> None:
    sizes = {str(module): len((ROOT / module).read_text().splitlines()) for module in [*MODULES, *CHECKS]}
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES} == {}


def imports(node: ast.AST, module: Path) -> Iterator[str]:
    """Names of the modules that are imported while the code runs: not those for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            above = ["roadbed", *module.parts[:-1]][: 1 + len(module.parts) - child.level] if child.level else []
            base = ".".join([*above, *([child.module] if child.module else [])])
            yield from ([f"{base}.{alias.name}" for alias in child.names] if base == "roadbed" else [base])
        yield from imports(child, module)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    """Inner packages know nothing of outer ones, so that each can be read, tested and replaced by itself."""
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        if module.parts[0] == package
        for name in imports(tree(module), module)
        if name.startswith("roadbed.") and name.split(".")[1] not in LAYERS[package]
    ]
    assert wrong == []


def test_help_loads_no_engine() -> None:
    """Reading the help must be quick: nothing of the command line imports pyinfra, paramiko or pytest to begin with."""
    heavy = "{'pyinfra', 'paramiko', 'gevent', 'pytest', 'pydantic', 'jinja2', 'testinfra'}"
    code = f"import sys, roadbed.cli.main; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_links_are_links() -> None:
    """A clone without symbolic links (Windows, a zip file) cannot be installed: see docs/adr/0002."""
    plain = [path.name for path in (ROOT / "src/roadbed").iterdir() if path.suffix == "" and path.is_file()]
    assert plain == [], "clone again with `git -c core.symlinks=true clone`, on Windows inside WSL"
