"""The tree, the manifest and the archive of a release."""

import base64
import io
import os
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from roadbed.deploys.node import NodeBuild
from roadbed.engine.errors import InventoryError, Refused
from roadbed.releases import action_key, artefact, build, job, layout, leaks, toolchain
from roadbed.releases.artefact import Artefact
from roadbed.releases.command import BuildFailed
from roadbed.releases.manifest import MANIFEST, SUMS, Manifest
from roadbed.releases.project import detect

KEY = base64.b64encode(bytes(range(32)))
PUBLIC = ("app/.next/static", "app/public")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make_tree(folder: Path) -> Path:
    """A release as the build leaves it, small."""
    for name, text in {
        "app/server.js": "serve()",
        "app/.env.production": "TOKEN=secret-token",
        "app/.next/static/chunks/a.js": "client()",
        "app/public/robots.txt": "User-agent: *",
        "app/node_modules/.bin/tool": "#!/bin/sh\n",
        ".roadbed/start": "#!/bin/sh\n",
        ".roadbed/runtime/server.cjs": "preload()",
        ".roadbed/seed/app/.next/cache/page": "seed",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "app/node_modules/.bin/tool").chmod(0o755)
    (folder / "app/node_modules/alias").symlink_to("../public")
    return folder


def make_release(
    tmp_path: Path, release: str = "20260102T030405-abcdef0", app: str = "shop", source_hash: str = "0" * 64
) -> Artefact:
    tree = make_tree(artefact.cache.release_folder(app) / f".{release}.partial")
    files, links = layout.describe(tree, PUBLIC)
    manifest = Manifest(
        app=app, release=release, source_hash=source_hash, created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        next="16.4.6", node="24.21.0", platform="linux-x86_64", build_id="b", deployment_id=release,
        key_fingerprint="0" * 12, server="", dist=".next", writable=("app/.next/cache",), base_path="",
        asset_prefix="", commit=None, dirty=False, routes=(), files=files, links=links,
    )  # fmt: skip
    return artefact.save(tree, manifest)


def archive_of(release: Artefact, paths: list[str] | None = None) -> bytes:
    output = io.BytesIO()
    release.write_archive(output, paths)
    return output.getvalue()


def test_what_nginx_serves_is_readable_by_all_and_the_server_by_its_group_alone(tmp_path: Path) -> None:
    files = make_release(tmp_path).manifest.files
    assert {path: entry.mode for path, entry in files.items()} == {
        ".roadbed/runtime/server.cjs": "644",
        ".roadbed/seed/app/.next/cache/page": "640",
        ".roadbed/start": "755",
        "app/.env.production": "640",
        "app/.next/static/chunks/a.js": "644",
        "app/node_modules/.bin/tool": "750",
        "app/public/robots.txt": "644",
        "app/server.js": "640",
    }


def test_a_link_is_carried_and_one_that_leads_outside_is_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    assert release.manifest.links == {"app/node_modules/alias": "../public"}
    (release.tree / "app/out").symlink_to("/etc/hostname")
    with pytest.raises(BuildFailed, match=r"app/out to /etc/hostname, outside of itself.*outputFileTracingRoot"):
        layout.describe(release.tree, PUBLIC)


@pytest.mark.parametrize(
    ("base", "links"),
    [("", {"public": "../app/public"}), ("/docs/v2", {"public/docs/v2": "../../../app/public"})],
)
def test_nginx_finds_public_files_under_the_base_path(tmp_path: Path, base: str, links: dict[str, str]) -> None:
    dist, tree = tmp_path / "project/.next", tmp_path / "tree"
    for name in ("standalone/server.js", "static/chunks/a.js", "../public/robots.txt"):
        (dist / name).parent.mkdir(parents=True, exist_ok=True)
        (dist / name).write_text("x")
    (tree / ".roadbed").mkdir(parents=True)
    data = {"distDir": ".next", "appDir": "", "basePath": base, "writableDirs": ["cache"]}
    layout.lay_out(layout.BuildInfo(data, dist), tree)
    found = layout.describe(tree, PUBLIC)[1]
    expected = {"static": "../app/.next/static", **links}
    assert found == {f".roadbed/{name}": target for name, target in expected.items()}
    assert (tree / ".roadbed/public" / base.strip("/") / "robots.txt").read_text() == "x"


def test_a_file_name_that_no_list_can_hold_is_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    (release.tree / "app/public/a\nb").write_text("x")
    with pytest.raises(BuildFailed, match="line break"):
        layout.describe(release.tree, PUBLIC)


def test_the_archive_of_a_release_is_the_same_each_time(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    first = archive_of(release)
    for file in release.tree.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.touch()
    assert archive_of(release) == first


def test_the_archive_has_sorted_names_owner_zero_and_the_time_of_the_build(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(archive_of(release))) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(
        [*release.manifest.files, *release.manifest.links, MANIFEST, SUMS]
    )
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 1767323045)}
    modes = {member.name: f"{member.mode:o}" for member in members if member.name in release.manifest.files}
    assert modes == {path: entry.mode for path, entry in release.manifest.files.items()}


def test_an_archive_of_chosen_files_has_those_only(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(make_release(tmp_path), ["app/server.js", MANIFEST]))) as archive:
        assert archive.getnames() == [MANIFEST, "app/server.js"]


def test_a_release_file_can_be_loaded_again(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    file = tmp_path / "release.tar.gz"
    file.write_bytes(archive_of(release))
    assert artefact.load(file, "shop").digest() == release.digest()
    assert [one.release for one in artefact.cached("shop")] == [release.release]


def test_a_release_file_of_another_app_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    file = tmp_path / "release.tar.gz"
    file.write_bytes(archive_of(release))
    with pytest.raises(InventoryError, match="is a release of shop, not of blog"):
        artefact.load(file, "blog")
    (release.tree / "app/server.js").write_text("other()")
    file.write_bytes(archive_of(release))
    with pytest.raises(InventoryError, match=r"is damaged \(app/server.js\)"):
        artefact.load(file, "shop")
    file.write_bytes(b"no archive")
    with pytest.raises(InventoryError, match="is not a release file"):
        artefact.load(file, "shop")


def test_the_control_machine_keeps_the_newest_releases(tmp_path: Path) -> None:
    """All but those that were made or used within the hour: another run may be sending them."""
    made = [make_release(tmp_path, f"2026010{day}T000000-abcdef0") for day in range(1, 8)]
    assert [release.release for release in artefact.cached("shop")] == [release.release for release in made[::-1]]
    for release in made:
        os.utime(release.tree, (0, 0))
    assert artefact.find("shop", "0" * 64) == made[6]
    make_release(tmp_path, "20260108T000000-abcdef0")
    assert [release.release[7] for release in artefact.cached("shop")] == ["8", "7", "6", "5", "4"]


def test_a_release_that_is_built_does_not_wait_for_a_build_of_another_source(
    tmp_path: Path, make_context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stacks may have apps of the same name; a build takes a minute."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"dependencies": {"next": "16.4.6"}}')
    (project / "package-lock.json").write_text('{"packages": {"node_modules/next": {"version": "16.4.6"}}}')
    inventory = make_context(app={"source": str(project)}).inventory
    inventory._path = tmp_path / "prod.yml"
    tools = toolchain.Toolchain(NodeBuild("24.21.0"), lambda text: None)
    said: list[str] = []
    source_hash = job.make_job(inventory.app, detect(project), tools, KEY, said.append).source_hash
    release = make_release(tmp_path, source_hash=source_hash)

    def waits(*_: object) -> NoReturn:
        raise AssertionError("it waits for the other build")

    with artefact.cache.alone(artefact.cache.build_folder("shop"), said.append):
        monkeypatch.setattr(artefact.cache, "alone", waits)
        assert build.ensure(inventory, KEY, tools, said.append).release == release.release
    assert said == [f"Release {release.release} is built already"]


def test_the_digest_of_what_nginx_serves_ignores_the_server(tmp_path: Path) -> None:
    first = make_release(tmp_path)
    (first.tree / "app/server.js").write_text("changed")
    files, _ = layout.describe(first.tree, PUBLIC)
    second = Artefact(first.tree, first.manifest.model_copy(update={"files": files}))
    assert first.digest() != second.digest()
    assert first.digest(public_only=True) == second.digest(public_only=True)


def test_a_secret_in_client_code_is_refused_by_name_and_never_shown(tmp_path: Path) -> None:
    release = make_release(tmp_path)
    secrets = {"API_TOKEN": "secret-token", "SHORT": "client"}
    leaks.check(release.tree, PUBLIC, secrets)  # in .env.production on the server: no leak
    (release.tree / "app/.next/static/chunks/a.js").write_text("const t='secret-token'")
    with pytest.raises(Refused) as caught:
        leaks.check(release.tree, PUBLIC, secrets)
    assert "API_TOKEN is in app/.next/static/chunks/a.js" in str(caught.value)
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize("key", [b"", b"abc", base64.b64encode(b"x" * 16), base64.b64encode(b"x" * 33), b"\xff" * 44])
def test_an_action_key_of_another_form_is_refused_and_never_shown(key: bytes) -> None:
    with pytest.raises(InventoryError, match="base64 of 32 bytes") as caught:
        action_key.fingerprint(key)
    assert not key or key.decode(errors="replace") not in str(caught.value)


def test_the_fingerprint_tells_keys_apart() -> None:
    assert action_key.fingerprint(KEY) == "808b5b699ae6"
    assert action_key.fingerprint(base64.b64encode(b"x" * 32)) != action_key.fingerprint(KEY)
