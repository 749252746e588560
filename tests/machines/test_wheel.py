"""The wheel, installed where the repository is not, does what the repository does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Stack


def run(words: list[str], folder: Path, environment: dict[str, str], *, code: int = 0) -> str:
    """Runs a command and returns what it wrote; asserts its exit code."""
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )  # fmt: skip
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`provision` of a wheel that is built from the files of the repository, in a virtual environment of its own."""
    place = tmp_path_factory.mktemp("wheel")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON", "UV_"))}
    copy = place / "clone"
    run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(copy)], place, plain)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place / "dist"), str(copy)]
    run(build, place, plain)
    (wheel,) = (place / "dist").glob("roadbed-*.whl")
    run([sys.executable, "-m", "venv", str(place / "venv")], place, plain)
    pip = [str(place / "venv/bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, str(wheel)], place, plain)
    return place / "venv/bin/provision"


def test_wheel_in_an_empty_folder_gives_the_same_result(pair: Stack, installed: Path, tmp_path: Path) -> None:
    """`provision init --rehearsal`, with the addresses of the pair: what the repository converged needs no change."""
    plain = {name: value for name, value in pair.environment.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    run([str(installed), "init", "--rehearsal"], tmp_path, plain)
    path = tmp_path / "inventories/rehearsal.yml"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["inventories", "storefront"]
    data = yaml.safe_load(path.read_text())
    assert data["app"]["source"] == "../storefront"
    data["hosts"] = pair.data["hosts"]
    path.write_text(yaml.safe_dump(data))
    path.with_name("rehearsal.secrets.age").write_bytes(pair.path.with_name("stack.secrets.age").read_bytes())

    assert "pair-12" in run([str(installed), "check"], tmp_path, plain)
    said = run([str(installed), "phase1"], tmp_path, plain)
    assert "is built already" in said, "the same files make the same release"
    assert "pair-12: 0 changed" in said
    assert "pair-13: 0 changed" in said
    own = {**plain, "PYTEST_ADDOPTS": "-p of_the_users_own_tests"}
    verified = run([str(installed), "verify", "phase1", "--report", "out.html"], tmp_path, own)
    assert "do not hold" not in verified
    assert (tmp_path / "out.html").exists()
