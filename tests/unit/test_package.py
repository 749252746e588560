"""The wheel has every file that an installed Roadbed needs, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORK = (
    ".*_cache",
    ".git",
    ".next",
    ".venv",
    "*.egg-info",
    "__pycache__",
    "build",
    "dist",
    "node_modules",
    "report",
)
"""What tools leave in a work tree and a clean clone does not have."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the repository, links as links."""
    folder = tmp_path_factory.mktemp("package") / "roadbed"
    shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*WORK, "*.known_hosts", "*.age"))
    return folder


@pytest.fixture(scope="module")
def names(clone: Path) -> set[str]:
    """The files of a wheel that is built from the clean copy, without its metadata."""
    code = "import sys, setuptools.build_meta; setuptools.build_meta.build_wheel(sys.argv[1])"
    wheels = clone.parent / "wheels"
    wheels.mkdir()
    subprocess.run([sys.executable, "-c", code, str(wheels)], cwd=clone, check=True, capture_output=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        found = set(wheel.namelist())
    licenses = [name for name in found if name.endswith("licenses/LICENSE")]
    assert len(licenses) == 1
    return {name for name in found if ".dist-info/" not in name}


def test_wheel_has_the_files_of_the_repository(clone: Path, names: set[str]) -> None:
    """All that the links in src/roadbed lead to, dotfiles included; of the inventories only those that are ours."""
    source = clone / "src/roadbed"
    wanted = {f"roadbed/{path.name}" for path in source.iterdir() if path.is_file() and not path.is_symlink()}
    for link in (path for path in source.iterdir() if path.is_symlink()):
        folder = link.resolve()
        inside = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        wanted |= {f"roadbed/{link.name}/{name}" for name in inside}
    own = {"roadbed/inventories/example.yml", "roadbed/inventories/rehearsal.yml"}
    wanted = {name for name in wanted if not name.startswith("roadbed/inventories/")} | own
    assert sorted(wanted - names) == []
    assert sorted(names - wanted) == []


def test_wheel_holds_nothing_private(names: set[str]) -> None:
    """Neither keys nor what tools left: a wheel goes to strangers."""
    wrong = (".age", ".known_hosts", ".pyc", "/node_modules/", "/.next/", "/.env")
    assert sorted(name for name in names if any(part in name for part in wrong)) == []


def test_links_are_links() -> None:
    """A clone without symlinks (Windows, zip) cannot be installed; this says so before anything else fails."""
    plain = [path.name for path in (ROOT / "src/roadbed").iterdir() if path.suffix == "" and path.is_file()]
    assert plain == []
