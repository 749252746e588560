"""What a command on a host gave."""

from dataclasses import dataclass

from .errors import OperationFailed


@dataclass(frozen=True)
class Result:
    """Exit code, standard output, standard error. ``at`` is when they came, in seconds (``time.time()``)."""

    rc: int
    out: str
    err: str
    at: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.rc == 0

    def required(self, host: str) -> "Result":
        """Itself. Raises OperationFailed, with the last lines it said, when the command failed."""
        if not self.ok:
            reason = (self.err.strip() or self.out.strip() or f"exit code {self.rc}").splitlines()
            raise OperationFailed(f"{host}: {' / '.join(reason[-5:])}")
        return self
