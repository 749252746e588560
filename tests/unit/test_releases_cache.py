"""How the cache handlers get into a release."""

import json
from pathlib import Path

import pytest

from roadbed.releases import old_versions, runtime_files
from roadbed.releases.command import BuildFailed

NAMES = ("cache-handler.cjs", "shared-cache.cjs", "use-cache.cjs")


def test_a_server_gets_no_sources_of_the_cache(tmp_path: Path) -> None:
    runtime_files.copy_server(tmp_path / "runtime")
    files = {path.relative_to(tmp_path / "runtime").as_posix() for path in (tmp_path / "runtime").rglob("*")}
    assert "server.cjs" in files
    assert not {name for name in files if "cache/" in name or "package" in name or "adapter" in name}


def test_a_build_gets_the_finished_handlers_beside_the_adapter(tmp_path: Path) -> None:
    handlers = tmp_path / "handlers"
    handlers.mkdir()
    for name in NAMES:
        (handlers / name).write_text("made")
    runtime_files.copy_all(tmp_path / "runtime", handlers)
    assert (tmp_path / "runtime/adapter.cjs").is_file()
    assert sorted(path.name for path in (tmp_path / "runtime/cache").iterdir()) == list(NAMES)


def test_another_cache_makes_another_release() -> None:
    paths = [path.as_posix() for path in runtime_files.runtime_files()]
    assert {"cache/index.cjs", "cache/entry/cache-handler.cjs", "package-lock.json"} <= set(paths)
    assert not [path for path in paths if path.startswith("tests/")]


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((runtime_files.RUNTIME / "package-lock.json").read_text())["packages"]
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert all("integrity" in entry for name, entry in packages.items() if name)


def old_server(folder: Path, **config: object) -> Path:
    (folder / ".next").mkdir(parents=True)
    (folder / "server.js").write_text(f"const a = 1\nconst nextConfig = {json.dumps(config)}\nstart(nextConfig)\n")
    (folder / ".next/required-server-files.json").write_text(json.dumps({"version": 1, "config": config}))
    return folder


@pytest.fixture
def handlers(tmp_path: Path) -> Path:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "cache-handler.cjs").write_text("handler")
    return folder


def test_an_older_version_gets_the_handler_after_its_build(tmp_path: Path, handlers: Path) -> None:
    server = old_server(tmp_path / "app", experimental={"ppr": False})
    assert old_versions.add_cache_handler(server, ".next", handlers) is None
    required = json.loads((server / ".next/required-server-files.json").read_text())["config"]
    assert required == {"experimental": {"ppr": False}, "cacheHandler": "../node_modules/.roadbed/cache-handler.cjs"}
    assert f"const nextConfig = {json.dumps(required)}\n" in (server / "server.js").read_text()
    assert (server / ".next" / required["cacheHandler"]).resolve().read_text() == "handler"


def test_an_older_versions_own_handler_is_kept(tmp_path: Path, handlers: Path) -> None:
    server = old_server(tmp_path / "app", cacheHandler="../mine.js")
    note = old_versions.add_cache_handler(server, ".next", handlers)
    assert note is not None
    assert "../mine.js" in note
    assert not (server / "node_modules").exists()


def test_a_server_of_unknown_form_is_refused(tmp_path: Path, handlers: Path) -> None:
    server = old_server(tmp_path / "app")
    (server / "server.js").write_text("something else")
    with pytest.raises(BuildFailed, match="unknown form"):
        old_versions.add_cache_handler(server, ".next", handlers)
