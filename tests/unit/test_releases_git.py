"""Projects in git repositories: what may be written, and what comes of it, with real repositories on this machine."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys.source import GitSource, git_source
from roadbed.engine.errors import InventoryError, OperationFailed, RoadbedError
from roadbed.engine.inventory import Inventory
from roadbed.releases import build, checkout, git, mirror, source
from roadbed.releases.drivers import driver_of

PACKAGE = '{"name": "shop", "dependencies": {"next": "16.4.6", "pg": "8.0.0"}}'
LOCK = '{"lockfileVersion": 3, "packages": {"node_modules/next": {"version": "16.4.6"}}}'


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(checkout, "_asked", {})


@pytest.mark.parametrize(
    ("text", "url", "ref", "folder"),
    [
        ("https://github.com/o/r.git#v1.2", "https://github.com/o/r.git", "v1.2", ""),
        ("https://github.com/o/r", "https://github.com/o/r", "HEAD", ""),
        ("git@host:o/r.git#main", "git@host:o/r.git", "main", ""),
        ("git@host.example:r.git#feature/a+b:apps/web", "git@host.example:r.git", "feature/a+b", "apps/web"),
        ("ssh://git@host:2222/o/r.git#0123abc", "ssh://git@host:2222/o/r.git", "0123abc", ""),
        ("file:///srv/r.git#release-1:apps/web", "file:///srv/r.git", "release-1", "apps/web"),
        ("http://git.lan/r.git#@scope/web@1.2.0", "http://git.lan/r.git", "@scope/web@1.2.0", ""),
    ],
)
def test_a_repository_a_ref_and_a_folder(text: str, url: str, ref: str, folder: str) -> None:
    assert git_source(text) == GitSource(url, ref, folder)


@pytest.mark.parametrize("text", ["../shop", "/srv/shop", "shop#2", "release.tar.gz", "~/shop", "C:/shop"])
def test_everything_else_is_a_path(text: str) -> None:
    assert git_source(text) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("https://user:secret@github.com/o/r.git#v1", "has a password or a token in it"),
        ("https://ghp_secret@github.com/o/r.git#v1", "has a password or a token in it"),
        ("ssh://git:secret@host/o/r.git#v1", "has a password or a token in it"),
        ("https://github.com/o/r.git#", "'' after # is not the name of a branch"),
        ("https://github.com/o/r.git#:apps/web", "'' after # is not the name of a branch"),
        ("https://github.com/o/r.git#--upload-pack=x", "'--upload-pack=x' after # is not"),
        ("https://github.com/o/r.git#a..b", "'a..b' after # is not"),
        ("https://github.com/o/r.git#v1:../up", "'../up' after : is not a folder"),
        ("https://github.com/o/r.git#v1:/etc", "'/etc' after : is not a folder"),
        ("https://github.com/o/r.git#v1:apps/", "'apps/' after : is not a folder"),
        ("https://github.com#v1", "names no repository"),
        ("https://", "names no repository"),
        ("file://host/r.git#v1", "names no repository"),
        ("ssh://-oProxyCommand=x/r.git#v1", "names no repository"),
        ("ext::sh -c 'touch x'#v1", "is no URL of a git repository"),
        ("ftp://host/r.git", "is no URL of a git repository"),
        ("https://host/o r.git#v1", "has a blank"),
    ],
)
def test_a_wrong_form_is_refused_with_the_inventory(make_context: Callable[..., Any], text: str, rule: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_context(app={"source": text})
    assert rule in str(caught.value)
    assert "secret@" not in str(caught.value.errors(include_input=False)[0]["msg"])


def run_git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Repository:
    """A repository with a project in ``apps/web``, a tag and a branch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"file://{folder}"
        self.write("apps/web/package.json", PACKAGE)
        self.write("apps/web/package-lock.json", LOCK)
        self.write("apps/web/bin/tool", "#!/bin/sh\n").chmod(0o755)
        (folder / "apps/web/alias").symlink_to("package.json")
        self.write("docs/package.json", "{}")
        self.write(".gitattributes", "*.txt text eol=crlf\nsecret.md export-ignore\n")
        self.write("secret.md", "kept")
        run_git(folder, "init", "-q")
        self.commit("first")
        run_git(folder, "tag", "-a", "v1.0", "-m", "first release")
        run_git(folder, "branch", "feature/cart")

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def commit(self, message: str) -> str:
        run_git(self.folder, "add", "-A")
        run_git(self.folder, "commit", "-qm", message)
        return run_git(self.folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "far").mkdir()
    return Repository(tmp_path / "far")


def stack(make_context: Callable[..., Any], source: str) -> Inventory:
    inventory: Inventory = make_context(app={"source": source}).inventory
    inventory._path = Path("/nowhere/prod.yml")
    return inventory


def locate(make_context: Callable[..., Any], source: str) -> checkout.Checkout:
    return checkout.locate(stack(make_context, source), lambda text: None)


def test_the_files_of_a_tag_in_a_folder_of_a_monorepo(make_context: Callable[..., Any], repository: Repository) -> None:
    first = run_git(repository.folder, "rev-parse", "HEAD")
    repository.write("apps/web/later.txt", "x")
    repository.commit("second")
    found = locate(make_context, f"{repository.url}#v1.0:apps/web")
    assert found.git == source.GitState(first, False, "v1.0", repository.url)
    names = [path.as_posix() for path in source.files_of(found.path)]
    assert names == ["alias", "bin/tool", "package-lock.json", "package.json"]
    assert os.access(found.path / "bin/tool", os.X_OK)
    assert found.tree is not None
    assert (found.tree / "secret.md").read_text() == "kept"
    assert not (found.tree / ".git").exists()
    assert found.path.stat().st_mode & 0o777
    assert mirror.folder_of(GitSource(repository.url, "v1.0", "")).stat().st_mode & 0o077 == 0


def test_a_branch_is_asked_for_again_and_a_commit_is_not(
    make_context: Callable[..., Any], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_git(repository.folder, "rev-parse", "HEAD")
    assert locate(make_context, f"{repository.url}#main:apps/web").git == source.GitState(
        first, False, "main", repository.url
    )
    repository.write("apps/web/new.txt", "x")
    second = repository.commit("second")
    assert locate(make_context, f"{repository.url}#main:apps/web").git.commit == first  # type: ignore[union-attr]
    monkeypatch.setattr(checkout, "_asked", {})  # as the next command begins
    for ref in ("main", "HEAD", second, second[:9], "refs/heads/main"):
        found = locate(make_context, f"{repository.url}#{ref}:apps/web")
        assert found.git is not None
        assert (found.git.commit, (found.path / "new.txt").exists()) == (second, True)
    monkeypatch.setattr(checkout, "_asked", {})
    repository.folder.rename(repository.folder.with_name("gone"))
    assert locate(make_context, f"{repository.url}#{first}:apps/web").git.commit == first  # type: ignore[union-attr]
    with pytest.raises(OperationFailed, match=r"app/source: file://.*cannot be read: .*Check the URL.*git ls-remote"):
        locate(make_context, f"{repository.url}#main:apps/web")


def test_a_branch_that_was_rewritten_or_replaced_by_a_folder_of_branches(
    make_context: Callable[..., Any], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    locate(make_context, f"{repository.url}#feature/cart:apps/web")
    run_git(repository.folder, "branch", "-D", "feature/cart")
    run_git(repository.folder, "branch", "feature/cart/new")
    run_git(repository.folder, "commit", "-q", "--amend", "-m", "rewritten")
    monkeypatch.setattr(checkout, "_asked", {})
    rewritten = run_git(repository.folder, "rev-parse", "HEAD")
    assert locate(make_context, f"{repository.url}#main:apps/web").git.commit == rewritten  # type: ignore[union-attr]
    assert locate(make_context, f"{repository.url}#feature/cart/new:apps/web").git is not None


def test_a_commit_of_no_branch(make_context: Callable[..., Any], repository: Repository) -> None:
    run_git(repository.folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    run_git(repository.folder, "checkout", "-q", "--detach")
    repository.write("apps/web/new.txt", "x")
    lost = repository.commit("of a pull request")
    run_git(repository.folder, "checkout", "-q", "main")
    assert (locate(make_context, f"{repository.url}#{lost}:apps/web").path / "new.txt").exists()


@pytest.mark.parametrize(
    ("rest", "rule"),
    [
        (
            "#v1.1:apps/web",
            r"has no branch, tag or commit v1.1. Did you mean v1.0\? There are branches: feature/cart, main",
        ),
        ("#0123456789:apps/web", r"has no branch, tag or commit 0123456789. There are branches: .*; newest tags: v1.0"),
        ("#v1.0:apps/shop", r"has no folder apps/shop at v1.0. Next.js projects in it: apps/web. Write #v1.0:apps/web"),
        ("#v1.0", r"#v1.0 is not a Next.js project: it has no package.json. Next.js .* in it: apps/web. Write #v1.0:a"),
        ("#v1.0:docs", r'#v1.0:docs is not a Next.js project: package.json has no dependency "next"'),
    ],
)
def test_what_is_not_there(make_context: Callable[..., Any], repository: Repository, rest: str, rule: str) -> None:
    with pytest.raises(InventoryError, match=rule) as caught:
        build.check_source(stack(make_context, repository.url + rest))
    assert str(caught.value).startswith(f"app/source: {repository.url}")
    assert "cache" not in str(caught.value)


def test_a_lock_file_or_a_workspace_around_the_cache_is_not_the_projects(
    make_context: Callable[..., Any], repository: Repository, tmp_path: Path
) -> None:
    (repository.folder / "apps/web/package-lock.json").unlink()
    repository.commit("no lock file")
    (tmp_path / "package.json").write_text('{"workspaces": ["*"]}')
    (tmp_path / "package-lock.json").write_text(LOCK)
    with pytest.raises(InventoryError, match=r"#main:apps/web has no lock file"):
        build.check_source(stack(make_context, f"{repository.url}#main:apps/web"))


def test_an_empty_repository(make_context: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run_git(tmp_path / "empty", "init", "-q", "--bare")
    with pytest.raises(InventoryError, match=r"has no branch, tag or commit main. It is empty"):
        locate(make_context, f"file://{tmp_path}/empty#main")


def test_git_is_not_installed(
    make_context: Callable[..., Any], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InventoryError, match="git is not installed here"):
        locate(make_context, f"{repository.url}#main")


def test_files_in_git_lfs_without_git_lfs(make_context: Callable[..., Any], repository: Repository) -> None:
    repository.write(".gitattributes", "*.png filter=lfs diff=lfs merge=lfs -text\n")
    repository.commit("pictures")
    with pytest.raises(InventoryError, match="keeps files in Git LFS, and git-lfs is not installed"):
        locate(make_context, f"{repository.url}#main:apps/web")


def test_submodules_are_told(make_context: Callable[..., Any], repository: Repository) -> None:
    commit = run_git(repository.folder, "rev-parse", "HEAD")
    run_git(repository.folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},packages/ui")
    run_git(repository.folder, "commit", "-qm", "submodule")
    said: list[str] = []
    checkout.locate(stack(make_context, f"{repository.url}#main:apps/web"), said.append)
    assert [text for text in said if text.startswith("Submodules are not fetched: packages/ui.")] != []


def test_a_hook_of_git_may_start_roadbed(
    make_context: Callable[..., Any], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere/.git")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert locate(make_context, f"{repository.url}#main:apps/web").git is not None
    assert source.git_state(repository.folder).ref == "main"


def test_the_driver_is_known_once_the_repository_was_fetched(
    make_context: Callable[..., Any], repository: Repository
) -> None:
    inventory = stack(make_context, f"{repository.url}#main:apps/web")
    assert driver_of(inventory).note.endswith("is not here or cannot be read")
    checkout.locate(inventory, lambda text: None)
    assert driver_of(inventory).driver == "pg"


def test_a_stack_with_another_source(make_context: Callable[..., Any]) -> None:
    inventory = stack(make_context, "../shop")
    other = inventory.with_source("git@host:o/r.git#v2")
    assert (other.app.git, other.path, inventory.app.git) == (
        GitSource("git@host:o/r.git", "v2", ""),
        inventory.path,
        None,
    )
    with pytest.raises(ValueError, match="names no repository"):
        inventory.with_source("https://host#v2")


def test_old_files_are_removed_and_those_in_use_are_not(
    make_context: Callable[..., Any], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = mirror.folder_of(GitSource(repository.url, "main", "")) / "trees"
    for number in range(5):
        repository.write("apps/web/n.txt", str(number))
        repository.commit(str(number))
        monkeypatch.setattr(checkout, "_asked", {})
        locate(make_context, f"{repository.url}#main:apps/web")
    assert len(list(trees.iterdir())) == 5
    for tree in trees.iterdir():
        os.utime(tree, (0, 0))
    monkeypatch.setattr(checkout, "_asked", {})
    locate(make_context, f"{repository.url}#main:apps/web")
    assert len(list(trees.iterdir())) == mirror.KEPT


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.slow
def test_a_login_is_never_asked_for_and_a_dead_line_ends(
    make_context: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh is told not to ask; what it says comes with a way out; what takes too long is ended with its helpers."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    said = "git@host: Permission denied (publickey)."
    program(tmp_path / "bin", "ssh", f'echo "$@" > {tmp_path}/words; echo "{said}" >&2; exit 255')
    with pytest.raises(OperationFailed, match=r"Permission denied.*add the key to the SSH agent.*git ls-remote git@h"):
        locate(make_context, "git@host:o/r.git#main")
    assert "BatchMode=yes" in (tmp_path / "words").read_text()
    program(tmp_path / "bin", "ssh", f"echo $$ > {tmp_path}/ssh.pid; exec sleep 60")
    monkeypatch.setattr(git.git, "__kwdefaults__", {"index": None, "seconds": 1.0})
    began = time.monotonic()
    with pytest.raises(OperationFailed, match="no end after 1 s"):
        locate(make_context, "git@host:o/r.git#main")
    assert time.monotonic() - began < 10
    left = Path("/proc") / (tmp_path / "ssh.pid").read_text().strip() / "cmdline"
    assert not left.exists() or left.read_bytes() == b""


@pytest.mark.slow
def test_two_runs_fetch_one_after_the_other(make_context: Callable[..., Any], repository: Repository) -> None:
    inventory = stack(make_context, f"{repository.url}#main:apps/web")
    wanted = inventory.app.git
    assert wanted is not None
    found: list[object] = []

    def one() -> None:
        try:
            found.append(mirror.fetched(wanted, lambda text: None))
        except RoadbedError as error:
            found.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert isinstance(found[0], tuple)
