"""What one host was asked without changing anything, and its answers: valid until something changes there.

pyinfra asks a fact again for every operation that needs it (pyinfra#17). Here a question is asked once, and
what the last run asked is asked ahead in one round trip, as soon as the host is connected.
"""

import json
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from .batch import answer_all
from .result import Result

FRESH_SECONDS = 60.0
"""An answer older than this is not used: the host may have waited long for another one, or for the user."""


class Answers:
    """Questions are complete shell commands; ``ask`` gets the results of several in one round trip."""

    def __init__(self, ask: Callable[[list[str]], list[Result]]) -> None:
        self._ask = ask
        self._known: dict[str, Result] = {}
        self._asked: dict[str, None] = {}
        self._expected: list[str] = []
        self._since = 0.0

    def of(self, question: str) -> Result:
        """The answer to a question, from the host when there is no valid one. Raises what ``ask`` raises."""
        self._asked[question] = None
        if self._known and time.monotonic() - self._since > FRESH_SECONDS:
            self.forget()
            self.renew()
        if question not in self._known:
            self._keep(answer_all(self._ask, [question]))
        return self._known[question]

    def expect(self, path: Path) -> None:
        """Asks what the last run asked, as ``save`` wrote it to ``path``. Without such a file nothing is asked."""
        try:
            self._expected = [str(question) for question in json.loads(path.read_text())]
        except (OSError, ValueError, TypeError):
            return
        self.renew()

    def renew(self) -> None:
        """Asks everything expected and everything asked before, unless answers are valid still."""
        if not self._known and (questions := list(dict.fromkeys([*self._expected, *self._asked]))):
            self._keep(answer_all(self._ask, questions))

    def forget(self) -> None:
        """Something has changed, or may have: no answer is valid any more."""
        self._known.clear()

    def save(self, path: Path) -> None:
        """Remembers what this run asked for the next one. The file holds questions, no answers."""
        if self._asked:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(json.dumps(list(self._asked)))

    def _keep(self, answers: dict[str, Result]) -> None:
        if not self._known:
            self._since = time.monotonic()
        self._known.update(answers)


def list_path(inventory: Path, host: str) -> Path:
    """Where the list of questions to a host is kept between runs."""
    stack = sha256(str(inventory.resolve()).encode()).hexdigest()[:16]
    return Path("~/.cache/roadbed/facts").expanduser() / stack / f"{host}.json"
