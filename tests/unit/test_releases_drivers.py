"""The database driver of a project: from its dependencies, from a workspace, from a lock file, from a release."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roadbed.deploys.urls import chosen_driver
from roadbed.engine.inventory import Inventory
from roadbed.releases import lock_file
from roadbed.releases.drivers import Detected, detect_driver, driver_of
from roadbed.releases.manifest import Manifest
from roadbed.releases.project import detect

NEXT = "16.4.6"
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make({"pg": "8"}, {"node_modules/x": {...}})``: a project with dependencies and entries of its lock file."""

    def project(
        dependencies: dict[str, str], entries: dict[str, Any] | None = None, dev: dict[str, str] | None = None
    ) -> Path:
        package = {"dependencies": {"next": NEXT, **dependencies}, "devDependencies": dev or {}}
        (tmp_path / "package.json").write_text(json.dumps(package))
        plain = {f"node_modules/{name}": {"version": text} for name, text in {**dependencies, **(dev or {})}.items()}
        packages = {"": package, "node_modules/next": {"version": NEXT}, **plain, **(entries or {})}
        (tmp_path / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
        return tmp_path

    return project


def found(folder: Path) -> Detected:
    return detect_driver(detect(folder))


@pytest.mark.parametrize(
    ("dependencies", "driver"),
    [
        ({}, None),
        ({"drizzle-orm": "0.44.0"}, None),
        ({"pg": "8.16.0"}, "pg"),
        ({"drizzle-orm": "0.44.0", "pg": "8.16.0"}, "pg"),
        ({"drizzle-orm": "0.44.0", "postgres": "3.4.7"}, "postgres"),
        ({"@prisma/client": "6.19.0"}, "prisma"),
        ({"@prisma/client": "7.0.0", "@prisma/adapter-pg": "7.0.0"}, "pg"),
        ({"@prisma/client": "7.0.0", "@prisma/adapter-mariadb": "7.0.0"}, None),
        ({"@prisma/client": "7.0.0", "@prisma/adapter-pg": "7.0.0", "pg": "8.16.0"}, "pg"),
        ({"mysql2": "3.0.0"}, None),
    ],
)
def test_the_dependencies_name_the_driver(make: Make, dependencies: dict[str, str], driver: str | None) -> None:
    assert found(make(dependencies)) == Detected(driver)


@pytest.mark.parametrize(
    ("dependencies", "driver", "words"),
    [
        (["pg", "postgres"], "postgres", "postgres, pg speak to PostgreSQL"),
        (["pg", "@prisma/client"], "prisma", "gets the parameters of prisma. Another: app/database/driver"),
        (["@neondatabase/serverless", "drizzle-orm"], None, "@neondatabase/serverless speaks to Neon's proxy alone"),
        (["@prisma/client", "@prisma/adapter-neon"], None, "@prisma/adapter-neon speaks to Neon's proxy alone"),
        (["@vercel/postgres", "pg"], "pg", "it cannot use a database or PgBouncer of this stack"),
    ],
)
def test_what_is_not_clear_is_said(make: Make, dependencies: list[str], driver: str | None, words: str) -> None:
    detected = found(make(dict.fromkeys(dependencies, "1.0.0")))
    assert detected.driver == driver
    assert words in detected.note


def test_what_is_for_development_alone_does_not_count(make: Make) -> None:
    assert found(make({"drizzle-orm": "0.44.0"}, dev={"pg": "8.16.0", "drizzle-kit": "0.31.0"})).driver is None


def test_what_a_dependency_brings_counts_where_the_project_says_nothing(make: Make) -> None:
    """Followed as Node.js does: the nearest node_modules first; optional peers belong to somebody else."""
    entries = {
        "node_modules/queue": {"version": "1.0.0", "dependencies": {"wrap": "1"}},
        "node_modules/queue/node_modules/wrap": {"version": "1.0.0", "dependencies": {"pg": "8"}},
        "node_modules/wrap": {"version": "2.0.0", "dependencies": {"postgres": "3"}},
        "node_modules/pg": {"version": "8.16.0"},
        "node_modules/postgres": {"version": "3.4.7"},
    }
    assert found(make({"queue": "1.0.0"}, entries)).driver == "pg"
    entries["node_modules/orm"] = {
        "version": "1.0.0",
        "peerDependencies": {"postgres": "3"},
        "peerDependenciesMeta": {"postgres": {"optional": True}},
    }
    assert found(make({"orm": "1.0.0"}, entries)).driver is None
    entries["node_modules/orm"] = {"version": "1.0.0", "peerDependencies": {"postgres": "3"}}
    assert found(make({"orm": "1.0.0"}, entries)).driver == "postgres"
    assert found(make({"orm": "1.0.0", "pg": "8.16.0"}, entries)).driver == "pg"


def test_prismas_adapter_may_come_from_another_package(make: Make) -> None:
    entries = {
        "node_modules/db": {"version": "1.0.0", "dependencies": {"@prisma/adapter-pg": "7"}},
        "node_modules/@prisma/adapter-pg": {"version": "7.0.0"},
    }
    assert found(make({"@prisma/client": "7.0.0", "db": "1.0.0"}, entries)).driver == "pg"


def workspace(folder: Path) -> Path:
    """apps/web uses packages/db, which uses postgres; another app of the workspace uses pg."""
    packages = {"apps/web": {"db": "*", "next": NEXT}, "packages/db": {"postgres": "3"}, "apps/api": {"pg": "8"}}
    for place, dependencies in packages.items():
        (folder / place).mkdir(parents=True)
        (folder / place / "package.json").write_text(json.dumps({"dependencies": dependencies}))
    (folder / "package.json").write_text(json.dumps({"workspaces": ["apps/*", "packages/*"]}))
    return folder / "apps/web"


def test_packages_of_an_npm_workspace_are_followed(tmp_path: Path) -> None:
    web = workspace(tmp_path)
    entries = {
        "": {"workspaces": ["apps/*", "packages/*"]},
        "apps/web": {"dependencies": {"db": "*", "next": NEXT}},
        "packages/db": {"dependencies": {"postgres": "3"}},
        "apps/api": {"dependencies": {"pg": "8"}},
        "node_modules/db": {"resolved": "packages/db", "link": True},
        "node_modules/next": {"version": NEXT},
        "node_modules/postgres": {"version": "3.4.7"},
        "node_modules/pg": {"version": "8.16.0"},
    }
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": entries}))
    assert lock_file.production(tmp_path / "package-lock.json", Path("apps/web")) == {"db", "next", "postgres"}
    assert found(web).driver == "postgres"


PNPM_9 = f"""
lockfileVersion: '9.0'
importers:
  .: {{}}
  apps/web:
    dependencies:
      db: {{specifier: 'workspace:*', version: link:../../packages/db}}
      next: {{specifier: '*', version: {NEXT}(react@19.3.1)}}
      fast: {{specifier: 'npm:@scope/slow@1', version: '@scope/slow@1.0.0'}}
    devDependencies:
      pg: {{specifier: '*', version: 8.16.0}}
  packages/db:
    dependencies:
      wrap: {{specifier: '*', version: 1.0.0(postgres@3.4.7)}}
snapshots:
  next@{NEXT}(react@19.3.1): {{}}
  wrap@1.0.0(postgres@3.4.7):
    dependencies: {{postgres: 3.4.7}}
  postgres@3.4.7: {{}}
  pg@8.16.0: {{}}
  '@scope/slow@1.0.0':
    optionalDependencies: {{left: 1.0.0}}
"""
PNPM_6 = f"""
lockfileVersion: '6.0'
dependencies:
  next: {{specifier: '*', version: {NEXT}}}
  wrap: {{specifier: '*', version: 1.0.0}}
packages:
  /next@{NEXT}: {{}}
  /wrap@1.0.0:
    dependencies: {{'@scope/deep': 2.0.0}}
  /@scope/deep@2.0.0:
    dependencies: {{pg: 8.16.0}}
  /pg@8.16.0: {{}}
"""


def test_packages_of_a_pnpm_workspace_are_followed(tmp_path: Path) -> None:
    web = workspace(tmp_path)
    (tmp_path / "pnpm-workspace.yaml").write_text("packages: [apps/*, packages/*]\n")
    lock = tmp_path / "pnpm-lock.yaml"
    lock.write_text(PNPM_9)
    names = lock_file.production(lock, Path("apps/web"))
    assert names == {"db", "next", "wrap", "postgres", "@scope/slow", "left"}
    assert found(web).driver == "postgres"


def test_a_pnpm_lock_file_of_one_project_is_followed(tmp_path: Path) -> None:
    lock = tmp_path / "pnpm-lock.yaml"
    lock.write_text(PNPM_6)
    assert lock_file.production(lock, Path()) == {"next", "wrap", "@scope/deep", "pg"}


@pytest.mark.parametrize("text", ["{}", '{"dependencies": {"pg": {"version": "8"}}}', '{"packages": []}', "[]"])
def test_a_lock_file_of_an_unknown_format_says_nothing(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "package-lock.json"
    lock.write_text(text)
    assert lock_file.production(lock, Path()) == frozenset()
    other = tmp_path / "pnpm-lock.yaml"
    other.write_text("lockfileVersion: 5.4\nimporters: {}\n")
    assert lock_file.production(other, Path("apps/web")) == frozenset()


def inventory(folder: Path, source: str, **app: Any) -> Inventory:
    stack = Inventory.model_validate(
        {
            "app": {"name": "shop", "source": source, "domain": "shop.example.com", **app},
            "hosts": {"web-1": {"address": "192.0.2.10", "roles": ["web", "app"]}},
        }
    )
    stack._path = folder / "stack.yml"
    return stack


def test_a_stack_has_the_driver_of_its_project(make: Make, tmp_path: Path) -> None:
    make({"postgres": "3.4.7"})
    assert driver_of(inventory(tmp_path, ".")) == Detected("postgres")
    away = driver_of(inventory(tmp_path, "nowhere"))
    assert (away.driver, away.note) == (None, "nowhere is not here or cannot be read")


@pytest.mark.parametrize(
    ("setting", "detected", "driver"),
    [
        ("auto", "pg", "pg"),
        ("auto", None, None),
        ("auto", "mysql2", None),
        ("none", "pg", None),
        ("prisma", "pg", "prisma"),
        ("postgres", None, "postgres"),
    ],
)
def test_the_inventory_has_the_last_word(setting: str, detected: str | None, driver: str | None) -> None:
    assert chosen_driver(setting, detected) == driver


def test_releases_of_before_have_no_driver() -> None:
    """The field is new: a manifest without it is still one."""
    assert Manifest.model_fields["database_driver"].default is None
