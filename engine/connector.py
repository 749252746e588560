"""pyinfra's way to a host, on top of a Roadbed session.

What this works around in pyinfra 3.10, each once:

- its SSH connector opens a channel and a sudo for every command and never sets TCP_NODELAY;
- a fact is asked again by every operation that needs it (pyinfra#17). Here it is asked once, and is
  valid until the first command or file that changes something (answers.py);
- it imports every connector that is installed to find the one of a host, three times a run;
- uploads go through a predictable world-readable file in /tmp (pyinfra#1085). Here the bytes
  go to a private file beside the target.
"""

import threading
from collections.abc import Callable, Iterator
from io import IOBase
from pathlib import Path
from typing import Any

from pyinfra.api import host as pyinfra_host
from pyinfra.api import inventory as pyinfra_inventory
from pyinfra.api.command import StringCommand
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import CommandOutput, OutputLine, make_unix_command_for_host

from .errors import RoadbedError
from .result import Result
from .session import Session

_NOT_FOR_THE_COMMAND = ("_get_pty", "_timeout", "_stdin", "_success_exit_codes")
_reading = threading.local()
_get_fact = pyinfra_host.get_fact  # type: ignore[attr-defined]


def _get_fact_marked(*args: Any, **kwargs: Any) -> Any:
    """pyinfra's get_fact; while it runs, commands are known to be reads. Facts and operations share one path."""
    before = getattr(_reading, "fact", False)
    _reading.fact = True
    try:
        return _get_fact(*args, **kwargs)
    finally:
        _reading.fact = before


class RoadbedConnector(BaseConnector):
    """Runs pyinfra's commands through the session given as host data ``roadbed_session``."""

    handles_execution = True

    def __init__(self, state: Any, host: Any) -> None:
        super().__init__(state, host)
        self.session: Session = host.host_data["roadbed_session"]
        self.facts = self.session.answers
        self.login: Callable[[], None] = host.host_data["roadbed_login"]
        self.error = ""
        """Why the last command or file of an operation failed; read by the runner."""

    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """``@roadbed/web-1`` is the host ``web-1``."""
        yield name, {}, []

    def run_shell_command(
        self, command: StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        """Runs one command; a fact that was fetched before and is still valid costs nothing."""
        timeout = arguments.get("_timeout") or None
        codes = arguments.get("_success_exit_codes") or [0]
        rest = {key: value for key, value in arguments.items() if key not in _NOT_FOR_THE_COMMAND}
        text = make_unix_command_for_host(self.state, self.host, command, **rest).get_raw_value() + " </dev/null"
        result = self.facts.of(text) if getattr(_reading, "fact", False) else self._change(text, timeout)
        lines = [OutputLine("stdout", line) for line in result.out.splitlines()]
        lines += [OutputLine("stderr", line) for line in result.err.splitlines()]
        return result.rc in codes, CommandOutput(lines)

    def _change(self, text: str, timeout: float | None) -> Result:
        self.facts.forget()
        try:
            result = self.session.run_words([text], timeout=timeout or 1800)[0]
        except RoadbedError as error:
            self.error = str(error)
            raise OSError(str(error)) from error
        if not result.ok:
            said = (result.err.strip() or result.out.strip() or f"exit code {result.rc}").splitlines()
            self.error = "\n".join(said[-8:])
        return result

    def write(self, path: str, data: bytes, **options: Any) -> None:
        """See ``Session.write``."""
        try:
            self.session.write(path, data, **options)
        except RoadbedError as error:
            self.error = str(error)
            raise

    def fresh_login(self) -> None:
        """Logs in anew; raises HostUnreachable. See ``Fleet.fresh_login``."""
        try:
            self.login()
        except RoadbedError as error:
            self.error = str(error)
            raise

    def put_file(  # type: ignore[override]
        self,
        filename_or_io: str | IOBase,
        remote_filename: str,
        remote_temp_filename: str | None = None,
        **_: Any,
    ) -> bool:
        """Uploads a small file for pyinfra's own operations; ours use ``write``."""
        data = Path(filename_or_io).read_bytes() if isinstance(filename_or_io, str) else filename_or_io.read()
        self.write(remote_filename, data.encode() if isinstance(data, str) else data, mode="600")
        return True

    def get_file(self, *_: Any, **__: Any) -> bool:
        """Roadbed fetches nothing through pyinfra."""
        raise OSError("fetching files is not supported")

    def rsync(self, *_: Any, **__: Any) -> bool:
        """Roadbed sends no folder through pyinfra."""
        raise OSError("rsync is not supported")


def install() -> None:
    """Has pyinfra, in this process, reach every host by this connector."""
    pyinfra_host.get_fact = _get_fact_marked  # type: ignore[attr-defined]
    pyinfra_inventory.get_all_connectors = _connectors  # type: ignore[attr-defined]
    pyinfra_inventory.get_execution_connectors = _connectors  # type: ignore[attr-defined]


def _connectors() -> dict[str, type[BaseConnector]]:
    """``ssh`` is looked up for every host, whatever its connector is."""
    return {"roadbed": RoadbedConnector, "ssh": RoadbedConnector}
