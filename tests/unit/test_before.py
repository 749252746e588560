"""What a first write keeps, and how `remove` finds it again: real shells on real files."""

import subprocess
from pathlib import Path

import pytest

from roadbed.deploys import before


@pytest.fixture
def rooted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for / : what is watched is in it."""
    monkeypatch.setattr(before, "BEFORE", f"{tmp_path}/before")
    monkeypatch.setattr(before, "WATCHED", (f"{tmp_path}/etc/",))
    (tmp_path / "etc").mkdir()
    return tmp_path


def keep(path: Path) -> None:
    subprocess.run(["sh", "-ec", before.keep(str(path))], check=True)


def test_a_file_that_was_there_is_kept_once(rooted: Path) -> None:
    place = rooted / "etc/a file"
    place.write_text("theirs")
    place.chmod(0o640)
    keep(place)
    place.write_text("ours")
    keep(place)
    kept = Path(f"{before.BEFORE}/files{place}")
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("theirs", 0o640)
    assert not Path(f"{before.BEFORE}/absent").exists()


def test_a_file_that_was_not_there_is_noted(rooted: Path) -> None:
    place = rooted / "etc/new/file"
    keep(place)
    place.parent.mkdir()
    place.write_text("ours")
    keep(place)
    assert Path(f"{before.BEFORE}/absent{place}").read_text() == ""
    assert not Path(f"{before.BEFORE}/files").exists()


def test_a_link_is_kept_as_a_link(rooted: Path) -> None:
    place = rooted / "etc/localtime"
    place.symlink_to("/nowhere")
    keep(place)
    assert Path(f"{before.BEFORE}/files{place}").readlink() == Path("/nowhere")


def test_what_is_kept_is_for_root_alone(rooted: Path) -> None:
    keep(rooted / "etc/x")
    assert Path(f"{before.BEFORE}/absent").stat().st_mode & 0o077 == 0


def test_other_places_are_not_kept() -> None:
    assert before.keep("/srv/shop/releases/x") == "true"
