"""The end of a build log: what an error shows of it."""

from pathlib import Path

from roadbed.releases.command import TAIL, BuildLog


def log_of(folder: Path, *lines: str) -> str:
    """The tail of a build log with these lines."""
    log = BuildLog(folder / "build.log")
    log.path.write_text("".join(line + "\n" for line in lines))
    return log.tail()


def test_tail_is_the_end_of_the_log(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(100)]
    assert log_of(tmp_path, *lines).splitlines() == lines[-TAIL:]
    assert log_of(tmp_path, "one") == "one"
    assert log_of(tmp_path) == ""


def test_tail_begins_where_npm_says_what_is_wrong(tmp_path: Path) -> None:
    """npm prints a page of usage after the reason."""
    usage = [f"npm error   --option-{number}" for number in range(80)]
    shown = log_of(tmp_path, "added 1 package", "npm error code EUSAGE", "npm error Missing: x from lock file", *usage)
    assert shown.startswith("npm error code EUSAGE\nnpm error Missing: x from lock file\n")
    assert shown.endswith("\n...")


def test_tail_keeps_what_a_script_said_before_npm_reports_its_failure(tmp_path: Path) -> None:
    said = [f"Type error {number}" for number in range(30)]
    shown = log_of(tmp_path, *said, "npm error code ELIFECYCLE", "npm error errno 1")
    assert shown.splitlines()[-3:] == ["Type error 29", "npm error code ELIFECYCLE", "npm error errno 1"]
    assert len(shown.splitlines()) == TAIL
