"""Which files a build is made from, and that the hash follows them and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from roadbed.releases import source


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("package.json", "app/page.js", ".env.production", ".env.local", "node_modules/next/package.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def names(project: Path) -> list[str]:
    return [path.as_posix() for path in source.files_of(project)]


def git(project: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "-C", str(project), *identity, *arguments], check=True, capture_output=True)


def test_packages_builds_and_the_developers_own_settings_stay_behind(project: Path) -> None:
    for junk in (".next/BUILD_ID", "tsconfig.tsbuildinfo", "next-env.d.ts", ".git/HEAD", ".DS_Store"):
        (project / junk).parent.mkdir(exist_ok=True)
        (project / junk).write_text("x")
    assert names(project) == [".env.production", "app/page.js", "package.json"]
    assert source.local_env_files(project) == [".env.local"]


def test_git_ignores_are_honoured_except_for_the_settings_next_carries_along(project: Path) -> None:
    (project / ".gitignore").write_text(".env*\nnode_modules\nlog.txt\n")
    (project / "log.txt").write_text("x")
    git(project, "init", "-q")
    git(project, "add", "package.json", "app", ".gitignore")
    (project / "app/new.js").write_text("not yet tracked")
    (project / "app/page.js").unlink()
    assert names(project) == [".env.production", ".gitignore", "app/new.js", "package.json"]


def test_a_project_that_git_ignores_as_a_whole_is_taken_as_it_is(project: Path) -> None:
    git(project, "init", "-q")
    (project / ".git/info/exclude").write_text("*\n")
    assert names(project) == [".env.production", "app/page.js", "package.json"]


def test_the_commit_and_whether_files_differ_from_it(project: Path) -> None:
    assert source.git_state(project) == source.GitState(None, False)
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    clean = source.git_state(project)
    (project / "app/page.js").write_text("changed")
    assert (len(clean.commit or ""), clean.dirty, source.git_state(project).dirty) == (40, False, True)


@pytest.mark.parametrize("change", ["content", "name", "mode", "added", "removed", "setting"])
def test_the_hash_changes_with_whatever_a_build_depends_on(project: Path, change: str) -> None:
    settings = {"node": "24.21.0"}
    before = source.hash_of(project, source.files_of(project), settings)
    page = project / "app/page.js"
    match change:
        case "content":
            page.write_text("other")
        case "name":
            page.rename(project / "app/other.js")
        case "mode":
            page.chmod(0o755)
        case "added":
            (project / "app/more.js").write_text("")
        case "removed":
            page.unlink()
        case "setting":
            settings = {"node": "24.21.1"}
    assert source.hash_of(project, source.files_of(project), settings) != before


def test_the_hash_does_not_depend_on_times_or_on_where_the_project_lies(project: Path, tmp_path: Path) -> None:
    before = source.hash_of(project, source.files_of(project), {})
    moved = tmp_path / "elsewhere"
    source.copy(project, source.files_of(project), moved)
    (moved / "package.json").touch()
    assert source.hash_of(moved, source.files_of(moved), {}) == before


def test_a_copy_holds_the_files_and_nothing_of_an_earlier_one(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    (target / "stale.js").write_text("x")
    files = source.files_of(project)
    source.copy(project, files, target)
    assert source.files_of(target) == files


def test_a_large_folder_is_removed_with_few_file_descriptors(tmp_path: Path) -> None:
    """gevent puts the closing of folders off; 1024 descriptors, a user's default, are fewer than node_modules has."""
    for number in range(400):
        (tmp_path / f"tree/{number}/deep").mkdir(parents=True)
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import resource, sys, gevent; from pathlib import Path; from roadbed.releases.cache import remove_tree\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "gevent.spawn(remove_tree, Path(sys.argv[1])).get()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "tree")], check=True)
    assert not (tmp_path / "tree").exists()
