"""What a canary saw, kept on this machine: figures of each step, some failed requests, what the instances logged."""

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roadbed.deploys.app import AppSettings
from roadbed.engine.session import Session

from . import verdict
from .traffic import Traffic

FOLDER = "roadbed/canary"
"""In ~/.local/state, or XDG_STATE_HOME: ``<stack>/<release>.json``, for the user alone."""
MOST_LINES = 50
JOURNAL_LINES = 30
SHOWN = 5
"""Failed requests that the error message shows; the file has up to ``MOST_LINES``."""


class Evidence:
    """The file of one canary. It is written with every step, so that a killed run leaves it too."""

    def __init__(self, stack: str, release: str, old_release: str, slot: str) -> None:
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        self.path = Path(state).expanduser() / FOLDER / stack / f"{release}.json"
        self.data: dict[str, Any] = {
            "stack": stack,
            "release": release,
            "old_release": old_release,
            "slot": slot,
            "verdict": "under way",
            "reason": "",
            "began": _now(),
            "ended": None,
            "rule": {
                "deviations": verdict.DEVIATIONS,
                "margin": verdict.MARGIN,
                "least_failed": verdict.LEAST_FAILED,
                "least_requests": verdict.LEAST_REQUESTS,
                "slower": verdict.SLOWER,
                "slower_by_ms": verdict.SLOWER_BY_MS,
            },
            "steps": [],
            "failed_requests": [],
            "skipped_bytes": 0,
            "journals": {},
        }

    def step(self, percent: int, seconds: float) -> None:
        """A step begins: a share in percent, watched for ``seconds``."""
        self.data["steps"].append({"percent": percent, "watch": seconds, "began": _now()})
        self._write()

    def figures(self, old: Traffic, new: Traffic, reason: str) -> None:
        """What the present step has shown until now."""
        self.data["steps"][-1] |= {"old": _figures(old), "new": _figures(new), "worse": reason}
        self._write()

    def lines(self, host: str, lines: Iterable[dict[str, Any]], skipped: int) -> None:
        """Failed requests on a web host; ``skipped`` bytes of its log were not read."""
        kept = self.data["failed_requests"]
        kept += [{"host": host, **line} for line in lines][: MOST_LINES - len(kept)]
        self.data["skipped_bytes"] += skipped

    def journals(self, journals: Mapping[str, Mapping[str, str]]) -> None:
        """The last lines of the new instances' journals: host -> instance -> text."""
        self.data["journals"] = {
            f"{host} {name}": text.splitlines() for host, said in journals.items() for name, text in said.items()
        }

    def end(self, word: str, reason: str = "") -> Path:
        """The canary is over: passed or aborted. Returns the file."""
        self.data |= {"verdict": word, "reason": reason, "ended": _now()}
        self._write()
        return self.path

    def shown(self) -> list[str]:
        """Some lines for people: failed requests, and what the instances logged about them."""
        failed = self.data["failed_requests"][:SHOWN]
        text = [" ".join(map(str, one.values())) for one in failed]
        for name, lines in self.data["journals"].items() if failed else ():
            text += [f"{name}: {line}" for line in lines[-SHOWN:]]
        return text

    def _write(self) -> None:
        """A full disk here must not stop a rollout there."""
        with suppress(OSError):
            self._replace()

    def _replace(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(self.data, indent=1))
        fresh.replace(self.path)


def journals(session: Session, app: AppSettings, names: Iterable[str]) -> dict[str, str]:
    """The last lines that instances of a host have logged: instance -> text."""
    units = {name: shlex.quote(f"{app.name}@{name}.service") for name in names}
    read = f"journalctl --lines {JOURNAL_LINES} --no-pager --output short-iso --unit "
    results = session.run_many([read + unit for unit in units.values()])
    return {name: result.out.strip() for name, result in zip(units, results, strict=True)}


def _figures(traffic: Traffic) -> dict[str, Any]:
    return {
        "requests": traffic.requests,
        "failed": traffic.failed,
        "failed_percent": round(100 * traffic.share, 2),
        "p95_first_byte_ms": verdict.quantile(traffic.first),
        "p95_whole_ms": verdict.quantile(traffic.whole),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
