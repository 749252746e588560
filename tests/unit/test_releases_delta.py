"""What is sent of a release to a host that has another one: the scripts of the host run here, on folders."""

import io
import random
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from roadbed.releases import artefact, delta, layout
from roadbed.releases.artefact import Artefact
from roadbed.releases.manifest import Manifest
from roadbed.releases.scripts import script

OLD, NEW = "20260101T000000-aaaaaaa", "20260102T000000-bbbbbbb"
PUBLIC = ("app/.next/static", "app/public")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("seed", range(40))
def test_a_text_is_made_from_another_one_and_the_difference(seed: int) -> None:
    """Whatever has changed: sorted lists as they are, and any other text too."""
    chance = random.Random(seed)  # noqa: S311
    old = [f"{chance.randrange(30)} line with = and + {chance.randrange(4)}" for _ in range(chance.randrange(60))]
    new = [line for line in old if chance.random() < 0.8]
    for _ in range(chance.randrange(20)):
        new.insert(chance.randrange(len(new) + 1), chance.choice(["=1 2", "+x", "", "  indented", *old[:3]]))
    if seed % 4 == 0:
        chance.shuffle(new)
    before, after = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    assert apply(before, delta.difference(before, after)) == after


def apply(before: str, told: str) -> str:
    command = ["sh", "-c", 'printf %s "$1" > "$3"; printf %s "$2" | awk "$4" "$3" -', "sh"]
    if not before:
        return "".join(line[1:] + "\n" for line in told.splitlines())
    folder = subprocess.run(["mktemp"], capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run([*command, before, told, folder, delta.APPLY], capture_output=True, text=True, check=True)
    Path(folder).unlink()
    return done.stdout


def test_the_difference_of_long_lists_is_short_and_quick() -> None:
    old = [
        f'   "path/{number:05}": {{\n    "sha256": "{number:064}",\n    "mode": "640",\n   }},'
        for number in range(3000)
    ]
    new = [*old]
    for number in range(0, 3000, 100):
        new[number] = new[number].replace('"sha256": "0', '"sha256": "f')
    before, after = ("".join(f"{text}\n" for text in texts) for texts in (old, new))
    told = delta.difference(before, after)
    assert apply_here(before, told) == after
    assert told.count("\n") <= 61


def apply_here(before: str, told: str) -> str:
    lines, made = before.splitlines(), []
    for line in told.splitlines():
        if line.startswith("="):
            first, last = map(int, line[1:].split())
            made += lines[first - 1 : last]
        else:
            made.append(line[1:])
    return "".join(f"{line}\n" for line in made)


FILES = {
    "app/server.js": "serve({ID})",
    "app/node_modules/next/index.js": "next",
    "app/node_modules/.bin/tool": "#!/bin/sh\n",
    "app/.next/server/page one.html": "<html data-dpl-id='{ID}'>one</html>",
    "app/.next/server/chunk.bin": "\0\1{ID}\n\0{ID}",
    "app/.next/static/chunks/a.js": "client",
    "app/public/images/logo.svg": "<svg/>",
    ".roadbed/start": "#!/bin/sh\n",
}


def release(release_id: str, changes: dict[str, str | None] | None = None, programs: tuple[str, ...] = ()) -> Artefact:
    """A release in the cache; ``{ID}`` in a file is its id."""
    tree = artefact.cache.release_folder("shop") / f".{release_id}.partial"
    for name, text in {**FILES, **(changes or {})}.items():
        if text is not None:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text.replace("{ID}", release_id))
    for name in ("app/node_modules/.bin/tool", *programs):
        (tree / name).chmod(0o755)
    (tree / ".roadbed/static").symlink_to("../app/.next/static")
    files, links = layout.describe(tree, PUBLIC)
    manifest = Manifest(
        app="shop", release=release_id, source_hash="0" * 64, created=datetime(2026, 1, 2, tzinfo=UTC), next="16.4.6",
        node="24.21.0", platform="linux-x86_64", build_id="b", deployment_id=release_id, key_fingerprint="0" * 12,
        server="", dist=".next", writable=(), base_path="", asset_prefix="", commit=None, dirty=False, routes=(),
        files=files, links=links,
    )  # fmt: skip
    return artefact.save(tree, manifest)


class Host:
    """The folder of an app as on a host; what the scripts of an upload do there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "releases").mkdir(parents=True)

    def shell(self, text: str) -> str:
        done = subprocess.run(["sh", "-c", text], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def held(self) -> dict[str, delta.Held]:
        text = script("held", root=str(self.root)).replace("install -d -m 755 /var/lib/roadbed", ":")
        return delta.held(self.shell(text).splitlines())

    def take(
        self, new: Artefact, base: Artefact | None, *, public_only: bool = False, reuse: bool = True
    ) -> delta.Parcel:
        """As ``upload``; returns what was sent, and checks that the host has the release afterwards."""
        sums = new.manifest.sums(public_only=public_only)
        told = delta.difference(base.manifest.sums(public_only=public_only), sums) if base else sums
        self.shell(f"cat > {self.root}/raw <<'END'\n{told}END\ngzip -c {self.root}/raw > {self.root}/sums.gz")
        said = self.shell(
            script("receive", root=str(self.root), id=new.release, sums=f"{self.root}/sums.gz",
                   base=base.release if base else "", digest=new.digest(public_only=public_only), apply=delta.APPLY,
                   reuse="yes" if reuse else "")
        )  # fmt: skip
        found: dict[str, list[str]] = {"lacks": [], "moved": []}
        for line in said.splitlines():
            found[line.partition(" ")[0]].append(line.partition(" ")[2])
        parcel = delta.parcel(new, base, self.held(), found["lacks"], found["moved"], public_only=public_only)
        self.moved = found["moved"]
        output = io.BytesIO()
        links = [] if public_only else [*new.manifest.links]
        new.write_archive(output, [*parcel.paths, *links], parcel.extra)
        (self.root / "archive").write_bytes(output.getvalue())
        self.shell(
            script("unpack", app="nobody", root=str(self.root), id=new.release, archive=f"{self.root}/archive", node="",
                   created="1767312000", public=new.manifest.public, static=new.manifest.static, writable="",
                   group="root")
        )  # fmt: skip
        tree = self.root / "releases" / new.release
        for path, entry in new.manifest.files.items():
            if public_only and not new.manifest.is_public(path):
                assert not (tree / path).exists()
                continue
            assert (tree / path).read_bytes() == (new.tree / path).read_bytes(), path
            assert f"{(tree / path).stat().st_mode & 0o777:o}" == entry.mode, path
        for name in (".roadbed/manifest.json", ".roadbed/files.sha256"):
            wanted = sums if name.endswith("sha256") else (new.tree / name).read_text()
            assert (tree / name).read_text() == wanted
        assert {path.name for path in tree.iterdir()} == {"app", ".roadbed"}
        return parcel


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "srv")


def test_the_first_release_is_sent_whole(host: Host) -> None:
    first = release(OLD)
    assert delta.choose(first, host.held(), public_only=False) is None
    assert sorted(host.take(first, None).paths) == sorted([*FILES, ".roadbed/manifest.json"])


def test_files_that_differ_by_the_id_alone_are_made_there(host: Host) -> None:
    first, second = (
        release(OLD),
        release(NEW, {"app/.next/server/page one.html": "<html data-dpl-id='{ID}'>two</html>"}),
    )
    host.take(first, None)
    base = delta.choose(second, host.held(), public_only=False)
    assert base == first
    parcel = host.take(second, base)
    assert parcel.paths == ["app/.next/server/page one.html"]
    assert parcel.extra[".renamed"].decode().split("\n")[:-1] == ["app/.next/server/chunk.bin", "app/server.js"]
    assert len(parcel.extra[".manifest"]) < 1200


def test_a_file_that_was_moved_or_became_a_program_is_not_sent(host: Host) -> None:
    """The mode of its new place counts: what nginx serves is for all, a program can be run."""
    first = release(OLD)
    moved = {"app/public/images/logo.svg": None, "app/public/logo 2.svg": "<svg/>", "app/.next/static/next.js": "next"}
    second = release(NEW, moved, programs=("app/node_modules/next/index.js",))
    host.take(first, None)
    parcel = host.take(second, first)
    assert parcel.paths == []
    assert sorted(host.moved) == ["app/.next/static/next.js", "app/public/logo 2.svg"]


def test_a_host_that_serves_files_alone_gets_those(host: Host) -> None:
    first, second = release(OLD), release(NEW, {"app/public/new.txt": "new"})
    host.take(first, None, public_only=True)
    base = delta.choose(second, host.held(), public_only=True)
    assert base == first
    assert host.take(second, base, public_only=True).paths == ["app/public/new.txt"]


def test_without_the_other_release_on_this_machine_files_are_still_found_there(host: Host) -> None:
    """A machine that deploys with an empty cache, in CI for example."""
    host.take(release(OLD), None)
    artefact.cache.remove_tree(artefact.cache.release_folder("shop") / OLD)
    second = release(NEW)
    assert delta.choose(second, host.held(), public_only=False) is None
    sent = host.take(second, None).paths
    assert sorted(sent) == sorted(
        [".roadbed/manifest.json", "app/.next/server/chunk.bin", "app/.next/server/page one.html", "app/server.js"]
    )


def test_a_manifest_that_was_changed_here_is_sent_whole(host: Host) -> None:
    first, second = release(OLD), release(NEW)
    host.take(first, None)
    artefact.complete(first.tree, first.manifest.model_copy(update={"reproducible": True}))
    assert host.take(second, first).paths == [".roadbed/manifest.json"]


def test_a_damaged_release_is_found_out_and_not_used_again(host: Host) -> None:
    first, second = release(OLD), release(NEW)
    host.take(first, None)
    (host.root / "releases" / OLD / "app/node_modules/next/index.js").write_text("bit rot")
    with pytest.raises(AssertionError, match=r"index.js: FAILED|did NOT match"):
        host.take(second, first)
    assert len(host.take(second, None, reuse=False).paths) == len(FILES) + 1


def test_an_archive_with_more_files_has_them_first(host: Host) -> None:
    output = io.BytesIO()
    release(OLD).write_archive(output, ["app/server.js"], {".derive": b"x"})
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as tar:
        assert tar.getnames() == [".derive", "app/server.js"]
