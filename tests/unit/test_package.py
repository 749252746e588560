"""The wheel holds what a run needs, hidden files included, and nothing that is somebody's own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FOLDERS = (
    "cli", "deploys", "engine", "examples", "inventories", "machines", "releases", "runtime", "templates"
)  # fmt: skip
LEFT_OUT = ("runtime/tests/",)
"""Tests of the runtime are no part of a release."""
OWN = {
    "inventories/prod.yml": "app: {}\n",
    "inventories/prod.secrets.age": "sealed",
    "inventories/rehearsal.known_hosts": "192.168.60.12 ssh-ed25519 AAAA\n",
    "inventories/rehearsal.secrets.age": "sealed",
    "examples/storefront/node_modules/left/index.js": "",
    "examples/storefront/.next/BUILD_ID": "1",
    "examples/storefront/.env.local": "KEY=1\n",
    "examples/storefront/next-env.d.ts": "",
    "runtime/node_modules/left/index.js": "",
}
"""What a working copy may hold beside the files of the repository."""


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of the repository."""
    root = Path(__file__).resolve().parents[2]
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listing.split("\0") if name and (root / name).exists()]


@pytest.fixture(scope="module")
def packed(root_folder: Path, tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The file names of a wheel that is built from a used working copy."""
    copy = tmp_path_factory.mktemp("copy")
    for name in tracked:
        source, target = root_folder / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            target.write_bytes(source.read_bytes())
    for name, text in OWN.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name.removeprefix("roadbed/") for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def root_folder() -> Path:
    """The repository."""
    return Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_wheel_has_every_file_of_the_folders_and_no_other(packed: set[str], tracked: list[str]) -> None:
    wanted = {name for name in tracked if name.startswith(tuple(f"{folder}/" for folder in FOLDERS))}
    wanted = {name for name in wanted if not name.startswith(LEFT_OUT)}
    wanted |= {name.removeprefix("tests/") for name in tracked if name.startswith("tests/checks/")}
    wanted |= {"__init__.py", "py.typed"}
    assert packed == wanted


@pytest.mark.slow
def test_hidden_files_are_in_it(packed: set[str], tracked: list[str]) -> None:
    hidden = [name for name in tracked if name.startswith(FOLDERS) and "/." in name]
    assert hidden
    assert set(hidden) <= packed
