"""Live progress: what every host is doing now, and what has changed so far."""

import select
import sys
import threading
import time
from dataclasses import dataclass, field

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from roadbed.engine.report import OperationRecord, Report

from .style import console, say, seconds

MARKS = {"changed": ("+", "yellow"), "unchanged": ("=", "dim"), "failed": ("!", "red"), "skipped": ("-", "magenta")}
HERE = "this machine"
STILL_SECONDS = 10.0
"""Without a terminal, an operation that takes longer than this says that it is still at work."""


@dataclass
class _Now:
    text: str
    since: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)


class Progress(Report):
    """A report that is shown while it grows: a live table on a terminal, plain lines anywhere else.

    With ``quiet`` it shows failures alone.
    """

    quiet = False

    def __init__(self, verbose: bool = False) -> None:
        super().__init__()
        self._verbose = verbose
        self._now: dict[str, _Now] = {}
        self._title = ""
        self._ended = threading.Event()
        self._live = self._new_live()

    def _new_live(self) -> Live:
        return Live(console=console, get_renderable=self._table, refresh_per_second=8, transient=True)

    def __enter__(self) -> "Progress":
        if console.is_terminal and not self.quiet:
            self._live.start()
        elif not self.quiet:
            threading.Thread(target=self._still_there, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._now.clear()
        self._live.stop()

    def at_work(self, sentence: str) -> None:
        """What this machine itself does, such as a build; an empty sentence ends it."""
        self._now.pop(HERE, None)
        if sentence:
            if not self.quiet:
                say(sentence)
            self._now[HERE] = _Now(sentence)

    def printed(self, line: str) -> None:
        """What the work of this machine prints: its last line stands beside it."""
        if now := self._now.get(HERE):
            now.text = f"{now.text.partition(' | ')[0]} | {line[:100]}"

    def ask(self, question: str) -> bool:
        """A yes or no from the user; the live table makes room for it. The end of the input is a no."""
        self._live.stop()
        answer = ""
        while answer not in ("y", "yes", "n", "no"):
            typer.echo(f"{question} [Y/n]: ", nl=False, err=True)
            select.select([sys.stdin], [], [])  # to read at once would halt what goes on meanwhile: signs of life
            line = sys.stdin.readline()
            answer = line.strip().lower() or ("y" if line else "no")
        self._live = self._new_live()
        if not self.quiet:
            self._live.start()
        return answer in ("y", "yes")

    def on_step(self, name: str, hosts: list[str]) -> None:
        """A component begins."""
        self._title = name
        self._now.clear()
        if hosts and not self.quiet:
            console.print(Text(f"{name}: {', '.join(hosts)}", style="bold"), soft_wrap=True)

    def on_progress(self, host: str, text: str) -> None:
        """A host turns to something else."""
        self._now[host] = _Now(text)

    def on_operation(self, record: OperationRecord) -> None:
        """Changes, failures and skips are worth a line; what was in order already is not."""
        self._now.pop(record.host, None)
        if (record.status == "unchanged" and not self._verbose) or (self.quiet and record.status != "failed"):
            return
        mark, colour = MARKS[record.status]
        line = Text(f"  {mark} {record.host}: {record.name}", style=colour)
        if record.seconds >= 1:
            line.append(f"  {seconds(record.seconds)}", style="dim")
        console.print(line, soft_wrap=True)
        for detail in record.detail.splitlines():
            console.print(Text(f"      {detail}", style=colour), soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for host, now in list(self._now.items()):
            took = time.monotonic() - now.since
            table.add_row(Text(f"  … {host}", style="cyan"), Text(now.text), Text(seconds(took), style="dim"))
        return table

    def _still_there(self) -> None:
        while not self._ended.wait(1.0):
            for host, now in list(self._now.items()):
                if time.monotonic() - now.said >= STILL_SECONDS:
                    now.said = time.monotonic()
                    say(f"  … {host}: {now.text} ({seconds(now.said - now.since)})")
