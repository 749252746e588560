"""`provision rehearse` on a machine of its own, from creation to removal."""

import json
import re
import subprocess
from pathlib import Path

from roadbed.machines import nspawn

from .conftest import PROVISION, make_stack, spec

HOST = "rehearsed"
ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ["Hosts", "Phases", "Time", "What each host did when", "Checks", "What the first run changed"]
STAGES = ["create", "converge", "converge again", "verify", "destroy"]


def test_rehearse_ends_with_a_report_and_no_machine(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, [spec(HOST, 112)])
    stack.write(hosts={HOST: {**stack.data["hosts"][HOST], "machine": {"suite": "trixie"}}})
    words = [PROVISION, "rehearse", "phase1", "-i", str(stack.path), "--report", "out", "--json"]
    try:
        done = subprocess.run(
            words, cwd=tmp_path, env=stack.environment, capture_output=True, text=True, timeout=900, check=False
        )
    finally:
        if left := [machine.name for machine in nspawn.listing() if machine.name == HOST]:
            nspawn.down(left)
    assert done.returncode == 0, done.stderr
    assert left == []
    times = re.findall(r"^== (.+): ([0-9.]+ s|[0-9]+ min [0-9]+ s)$", done.stderr, re.M)
    print(f"\n{times}")
    assert [name for name, _ in times] == STAGES
    assert "0 changes" in done.stderr

    data = json.loads((tmp_path / "out/rehearsal.json").read_text())
    assert data == json.loads(done.stdout)
    assert data["phase"] == "phase1"
    assert list(data["timings"]) == STAGES[:-1]
    assert len(data["checks"]) > 40
    assert all(check["passed"] for check in data["checks"])
    assert data["converge"]["hosts"][HOST]["changed"] > 30

    page = (tmp_path / "out/rehearsal.html").read_text()
    assert not re.findall(r"(?:src|href|action|data)\s*=|url\(|@import", page)
    for check in data["checks"]:
        assert check["component"] in page
    assert HOST in page

    look = [ROOT / "scripts/pictures", tmp_path / "out/rehearsal.html", tmp_path / "pictures"]
    seen = json.loads(subprocess.run(look, capture_output=True, text=True, timeout=120, check=True).stdout)
    for screen, found in seen.items():
        assert (found["asked"], found["wrong"], found["overflow"]) == ([], [], 0), screen
        assert found["headings"][1:] == SECTIONS
        assert found["rows"] > len(data["checks"])
        assert (tmp_path / f"pictures/report-{screen}.png").stat().st_size > 10_000


def test_rehearse_of_an_unknown_phase_boots_nothing(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, [spec("never-booted", 113)])
    assert "there is no phase9. Phases: phase1" in stack.provision("rehearse", "phase9", code=2).stderr
    assert "never-booted" not in [machine.name for machine in nspawn.listing()]
