"""Roadbed's own JavaScript (``runtime/``): which of it goes into a release, and a hash of it."""

import shutil
from hashlib import sha256
from pathlib import Path

RUNTIME = Path(__file__).resolve().parents[1] / "runtime"
BUILD_ONLY = frozenset({"adapter.cjs", "describe.cjs"})


def runtime_files() -> list[Path]:
    """Every file of the runtime, relative to ``RUNTIME``; its tests are not part of it."""
    return sorted(path.relative_to(RUNTIME) for pattern in ("*.cjs", "lib/*.cjs") for path in RUNTIME.glob(pattern))


def runtime_hash() -> str:
    """SHA-256 over names and contents: another runtime makes another release."""
    total = sha256()
    for path in runtime_files():
        total.update(f"{path.as_posix()}\0{sha256((RUNTIME / path).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def copy_all(target: Path) -> None:
    """Copies the runtime, for a build to use."""
    _copy(runtime_files(), target)


def copy_server(target: Path) -> None:
    """Copies what a running server needs of the runtime."""
    _copy([path for path in runtime_files() if path.name not in BUILD_ONLY], target)


def _copy(files: list[Path], target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RUNTIME / path, target / path)
