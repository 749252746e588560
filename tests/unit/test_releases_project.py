"""What a project is, and what is said about one that cannot be deployed."""

import json
from pathlib import Path
from typing import Any

import pytest

from roadbed.engine.errors import InventoryError, RoadbedError
from roadbed.releases import versions
from roadbed.releases.project import detect

FINE = "16.4.6"


def make_project(folder: Path, *, version: str = FINE, lock: str | None = "package-lock.json", **package: Any) -> Path:
    """A project as far as detection reads it: package.json and a lock file."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"dependencies": {"next": f"^{version}"}, "scripts": {"build": "next build"}, **package}
    (folder / "package.json").write_text(json.dumps(content))
    if lock == "package-lock.json":
        (folder / lock).write_text(json.dumps({"packages": {"node_modules/next": {"version": version}}}))
    elif lock == "pnpm-lock.yaml":
        installed = f"importers:\n  .:\n    dependencies:\n      next:\n        version: {version}(react@19.3.1)\n"
        (folder / lock).write_text(installed)
    elif lock:
        (folder / lock).write_text("")
    return folder


@pytest.mark.parametrize(("lock", "manager"), [("package-lock.json", "npm"), ("pnpm-lock.yaml", "pnpm")])
def test_the_lock_file_names_the_package_manager_and_the_version(tmp_path: Path, lock: str, manager: str) -> None:
    project = detect(make_project(tmp_path, lock=lock))
    assert (project.manager, project.next_version, project.path) == (manager, FINE, tmp_path)


def test_a_project_in_a_workspace_uses_the_lock_file_above_it(tmp_path: Path) -> None:
    web = make_project(tmp_path / "apps/web", lock=None)
    make_project(tmp_path, workspaces=["apps/*"])
    project = detect(web)
    assert (project.root, project.folder, project.next_version) == (tmp_path, Path("apps/web"), FINE)


def test_a_lock_file_above_a_project_outside_a_workspace_is_not_its_own(tmp_path: Path) -> None:
    make_project(tmp_path)
    with pytest.raises(InventoryError, match="no lock file"):
        detect(make_project(tmp_path / "site", lock=None))


def broken(tmp_path: Path, how: str) -> Path:
    """A project with one thing wrong."""
    match how:
        case "missing":
            return tmp_path / "nowhere"
        case "empty":
            return tmp_path
        case "not json":
            (tmp_path / "package.json").write_text("{")
            return tmp_path
        case "other framework":
            return make_project(tmp_path, dependencies={"express": "5"})
        case "export":
            make_project(tmp_path)
            (tmp_path / "next.config.mjs").write_text('export default {\n  output: "export",\n}\n')
            return tmp_path
        case "two locks":
            make_project(tmp_path, lock="pnpm-lock.yaml")
            return make_project(tmp_path)
        case "broken lock":
            make_project(tmp_path)
            (tmp_path / "package-lock.json").write_text("{")
            return tmp_path
        case "no lock":
            return make_project(tmp_path, lock=None)
        case "tag":
            make_project(tmp_path, lock="pnpm-lock.yaml", version="canary")
            return tmp_path
        case "yarn":
            return make_project(tmp_path, lock="yarn.lock")
        case version:
            return make_project(tmp_path, version=version)


@pytest.mark.parametrize(
    ("how", "code", "rule", "way_out"),
    [
        ("missing", 2, "is not a folder", "relative to the inventory"),
        ("empty", 2, "is not a Next.js project: it has no package.json", "holds next.config.*"),
        ("not json", 2, "package.json cannot be read", "Repair the file"),
        ("other framework", 2, 'package.json has no dependency "next"', "Point app/source at the folder"),
        ("export", 2, "static site", "Remove it"),
        ("two locks", 2, "npm and pnpm", "Delete the one that is not used"),
        ("broken lock", 2, "cannot be read", "Make it anew"),
        ("no lock", 2, "no lock file", "npm install"),
        ("tag", 2, "'canary'", "Install a released version"),
        ("yarn", 2, "Yarn projects are not supported", "npm install"),
        ("13.5.11", 2, "oldest supported version is 14.2.0", "npm install next@latest"),
        ("14.2.35", 6, "CVE-2026-44578", "15.5.24"),
        ("15.4.7", 6, "CVE-2025-55182", "15.5.24"),
        ("16.0.6", 6, "remote code execution", "16.3.3"),
        ("16.2.5", 6, "CVE-2026-45109", "16.3.3"),
        ("16.3.2", 6, "GHSA-2xp9-vwfh-vxw4", "--allow-vulnerable"),
    ],
)
def test_a_project_that_cannot_be_deployed_is_explained(
    tmp_path: Path, how: str, code: int, rule: str, way_out: str
) -> None:
    with pytest.raises(RoadbedError) as caught:
        detect(broken(tmp_path, how))
    message = str(caught.value)
    assert caught.value.exit_code == code
    assert message.startswith(f"app/source: {tmp_path}")
    assert rule in message
    assert way_out in message


def test_a_vulnerable_version_is_built_when_told_to(tmp_path: Path) -> None:
    assert detect(make_project(tmp_path, version="14.2.35"), allow_vulnerable=True).next_version == "14.2.35"


def test_the_word_export_elsewhere_in_the_configuration_is_no_static_export(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "next.config.ts").write_text(
        '// output: "export" was tried once\nexport default { output: "standalone" }\n'
    )
    assert detect(tmp_path).next_version == FINE


@pytest.mark.parametrize(
    ("version", "advisory"),
    [
        ((15, 3, 6), "CVE-2026-44578"),
        ((15, 5, 16), "CVE-2026-45109"),
        ((15, 5, 23), "GHSA-2xp9-vwfh-vxw4"),
        ((15, 5, 24), None),
        ((16, 1, 0), "CVE-2026-44578"),
        ((16, 2, 12), "GHSA-2xp9-vwfh-vxw4"),
        ((16, 3, 3), None),
        ((16, 4, 0), None),
        ((17, 0, 0), None),
    ],
)
def test_a_version_is_vulnerable_until_the_repair_of_its_line(version: versions.Version, advisory: str | None) -> None:
    found = versions.advisory_for(version)
    assert (found.name if found else None) == advisory


def test_every_recommended_version_is_free_of_known_weaknesses() -> None:
    for advisory in versions.ADVISORIES:
        for fix in advisory.fixed:
            assert versions.advisory_for(versions.repaired((fix[0], fix[1], max(0, fix[2] - 1)))) is None
