"""What the journals of a stack say: which run was the last one, and whether it came to its end."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from .journal import folder_of
from .process import process_mark

Outcome = Literal["ok", "failed", "refused", "interrupted", "running"]


@dataclass(frozen=True)
class PastRun:
    """A run of this machine. ``stage`` is what was under way at the end of one that did not come to its own."""

    what: str
    owner: str
    begun: datetime
    ended: datetime | None
    outcome: Outcome
    error: str
    stage: str
    hosts: tuple[str, ...]

    @property
    def command(self) -> str:
        """The first word of ``what``: phase1, deploy, rollback."""
        return self.what.partition(" ")[0]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        times = {"begun": self.begun.isoformat(), "ended": self.ended and self.ended.isoformat()}
        rest = {"error": self.error, "stage": self.stage, "hosts": list(self.hosts)}
        return {"what": self.what, "owner": self.owner, **times, "outcome": self.outcome, **rest}


def last_run(inventory: Path) -> PastRun | None:
    """The last run that was not refused; None: this machine has changed nothing there yet."""
    return next((run for run in runs(inventory) if run.outcome != "refused"), None)


def runs(inventory: Path) -> Iterator[PastRun]:
    """The runs of a stack, the newest first. A journal that cannot be read is passed over."""
    for path in sorted(folder_of(inventory).glob("*.jsonl"), reverse=True):
        try:
            yield _run(list(_lines(path)))
        except (OSError, LookupError, ValueError, TypeError):
            continue


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            return
        if isinstance(value, dict):
            yield value


def _run(lines: list[dict[str, Any]]) -> PastRun:
    """Raises LookupError, ValueError or TypeError for lines that are no journal."""
    begun, last = lines[0], lines[-1]
    if begun["event"] != "begun":
        raise ValueError("no journal")
    over = last["event"] == "ended"
    outcome: Outcome = last["result"] if over else "running" if _lives(begun) else "interrupted"
    return PastRun(
        what=begun["what"],
        owner=begun["owner"],
        begun=datetime.fromisoformat(begun["at"]),
        ended=datetime.fromisoformat(last["at"]) if outcome != "running" else None,
        outcome=outcome,
        error=last.get("error", "") if over else "",
        stage=_stage(lines) if outcome != "ok" else "",
        hosts=tuple(begun["hosts"]),
    )


def _lives(begun: dict[str, Any]) -> bool:
    return process_mark(int(begun["pid"])) == str(begun["process"])


def _stage(lines: list[dict[str, Any]]) -> str:
    """``step: stage`` of what began last and did not end; a step alone; or nothing."""
    step = stage = ""
    for line in lines:
        if line["event"] == "step":
            step, stage = line["name"], ""
        elif line["event"] == "step ended":
            step = stage = ""
        elif line["event"] == "stage":
            stage = line["name"]
    return f"{step}: {stage}" if step and stage else step or stage
