"""Two builds of a release have the same bytes: what is derived, what is evened out, and what is told if not."""

import base64
import json
from pathlib import Path

import pytest

from roadbed.releases import build_paths, preview_keys, reproduce
from roadbed.releases.manifest import FileEntry

from .test_releases_artefact import archive_of, make_release

KEY = base64.b64encode(bytes(range(32)))
PREVIEW = {
    "previewModeId": "a1" * 16,
    "previewModeSigningKey": "b2" * 32,
    "previewModeEncryptionKey": "c3" * 32,
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_keys_of_draft_mode_follow_from_the_action_key_and_the_release() -> None:
    found = preview_keys.derive(KEY, "r1")
    assert found == preview_keys.derive(KEY, "r1")
    assert {name: len(value) for name, value in found.items()} == {name: len(value) for name, value in PREVIEW.items()}
    other_release, other_key = preview_keys.derive(KEY, "r2"), preview_keys.derive(base64.b64encode(b"x" * 32), "r1")
    assert len({*found.values(), *other_release.values(), *other_key.values()}) == 9


def test_keys_of_draft_mode_are_replaced_wherever_they_are(tmp_path: Path) -> None:
    dist = tmp_path / ".next"
    for name, text in {
        "prerender-manifest.json": json.dumps({"version": 4, "preview": PREVIEW}),
        "server/middleware-manifest.json": json.dumps({"env": {"__NEXT_PREVIEW_MODE_ID": PREVIEW["previewModeId"]}}),
        "server/edge/chunk.js": f"id='{PREVIEW['previewModeId']}'",
        "server/other.js": "nothing here",
        "server/data.bin": PREVIEW["previewModeId"],
    }.items():
        (dist / name).parent.mkdir(parents=True, exist_ok=True)
        (dist / name).write_text(text)
    preview_keys.settle(tmp_path, ".next", KEY, "r1")
    fresh = preview_keys.derive(KEY, "r1")
    assert json.loads((dist / "prerender-manifest.json").read_text()) == {"version": 4, "preview": fresh}
    assert (dist / "server/edge/chunk.js").read_text() == f"id='{fresh['previewModeId']}'"
    assert fresh["previewModeId"] in (dist / "server/middleware-manifest.json").read_text()
    assert (dist / "server/other.js").read_text() == "nothing here"
    assert (dist / "server/data.bin").read_text() == PREVIEW["previewModeId"]


@pytest.mark.parametrize("manifest", ["{}", '{"preview": null}', '{"preview": {"previewModeId": "a"}}'])
def test_a_build_without_such_keys_is_left_alone(tmp_path: Path, manifest: str) -> None:
    file = tmp_path / ".next/prerender-manifest.json"
    file.parent.mkdir()
    preview_keys.settle(tmp_path, ".next", KEY, "r1")
    file.write_text(manifest)
    preview_keys.settle(tmp_path, ".next", KEY, "r1")
    assert file.read_text() == manifest


def standalone(folder: Path, root: str, work: str, below: str, cores: int, *, old: bool = False) -> dict[str, str]:
    """What ``build_paths`` leaves of server.js and the manifest of a build in ``root``."""
    adapter = {"adapterPath": f"{work}/runtime/adapter.cjs"}
    config = {
        "outputFileTracingRoot": root,
        "turbopack": {"root": root},
        "experimental": {"cpus": cores, **(adapter if old else {})},
        "other": f"{root}-not/this",
        **({} if old else adapter),
    }
    manifest = {"version": 1, "config": config, "appDir": f"{root}/{below}".rstrip("/"), "relativeAppDir": below}
    (folder / ".next").mkdir(parents=True)
    (folder / ".next/required-server-files.json").write_text(json.dumps(manifest, indent=2))
    (folder / "server.js").write_text(f"const nextConfig = {json.dumps(config)}\nstart()\n")
    build_paths.settle(folder, ".next")
    return {file.name: file.read_text() for file in (folder / "server.js", folder / ".next/required-server-files.json")}


@pytest.mark.parametrize("below", ["", "apps/web"])
@pytest.mark.parametrize("old", [False, True])
def test_the_folders_and_cores_of_the_machine_that_built_are_evened_out(tmp_path: Path, below: str, old: bool) -> None:
    here = standalone(tmp_path / "a", "/home/me/.cache/shop/source", "/home/me/.cache/shop", below, 1, old=old)
    there = standalone(tmp_path / "b", "/var/lib/x/source", "/var/lib/x/tools", below, 15, old=old)
    same = [
        text.replace("/home/me/.cache/shop/source-not/this", "/var/lib/x/source-not/this") for text in here.values()
    ]
    assert same == list(there.values())
    config = json.loads(there["required-server-files.json"])["config"]
    assert config["turbopack"]["root"] == "/roadbed/source"
    assert (config["experimental"] if old else config)["adapterPath"] == "/roadbed/runtime/adapter.cjs"


def test_the_order_in_which_pages_were_ready_is_evened_out(tmp_path: Path) -> None:
    left = set()
    for folder, names in (("a", ["/b", "/ä"]), ("b", ["/ä", "/b"])):
        dist = tmp_path / folder / ".next"
        (dist / "server").mkdir(parents=True)
        pages = dict.fromkeys(names, "x")
        (dist / "server/pages-manifest.json").write_text(json.dumps(pages))
        (dist / "prerender-manifest.json").write_text(json.dumps({"version": 4, "routes": pages, "dynamicRoutes": {}}))
        (dist / "required-server-files.json").write_text("{}")
        (tmp_path / folder / "server.js").write_text("")
        build_paths.settle(tmp_path / folder, ".next")
        texts = [(dist / name).read_text() for name in ("server/pages-manifest.json", "prerender-manifest.json")]
        assert [json.loads(texts[0]), json.loads(texts[1])["routes"]] == [pages, pages]
        left.add(tuple(texts))
    assert len(left) == 1


def test_the_archive_depends_on_the_tree_and_the_id_alone(tmp_path: Path) -> None:
    first = archive_of(make_release(tmp_path / "a"))
    assert archive_of(make_release(tmp_path / "b")) == first


def test_what_differs_is_named_by_page_and_by_file(tmp_path: Path) -> None:
    release = make_release(tmp_path).manifest
    entry = FileEntry(sha256="0" * 64, mode="640", size=1)
    seed = ".roadbed/seed/app/.next/server/route-cache/APP_PAGE/ab12/$"
    changed = [
        f"{seed}/products/1.html",
        f"{seed}/products/1.segments/_full.segment.rsc",
        f"{seed}/index.rsc",
        ".roadbed/seed/app/.next/server/route-cache/PAGES/cd34/$/de/books.json",
        "app/.next/server/app/sale.html",
        "app/server.js",
    ]
    other = release.model_copy(update={"files": {**release.files, **dict.fromkeys(changed, entry)}})
    paths = reproduce.differences(release, other)
    assert paths == sorted(changed)
    pages, files = reproduce.because(release, paths)
    assert pages.startswith("rendered pages differ (/de/books, /index, /products/1, /sale): they show times")
    assert files == "files differ that are no pages (app/server.js)"
    assert reproduce.because(release, []) == ()


def test_a_random_name_of_a_build_is_foreseen(tmp_path: Path) -> None:
    release = make_release(tmp_path).manifest
    random = release.model_copy(update={"build_id": "V1StGXR8_Z5jdHi6B-myT", "next": "14.2.35"})
    assert reproduce.foreseen(release) == ()
    assert reproduce.foreseen(random) == (
        "Next.js 14.2.35 names each build at random. Set generateBuildId, or upgrade to 15.4",
    )
    fixed = release.model_copy(update={"build_id": "build-TfctsWXpff2fKS"})
    assert reproduce.foreseen(fixed) == ()
