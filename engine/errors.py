"""Errors a user can meet. ``str(error)`` is what they read: where, then the rule, then the way out."""


class RoadbedError(Exception):
    """Base of every expected error. ``exit_code`` is the exit code of the command."""

    exit_code = 1


class InventoryError(RoadbedError):
    """The inventory, or a file it names, cannot be used. Nothing was sent to any host."""

    exit_code = 2


class HostUnreachable(RoadbedError):
    """A host cannot be reached or logged in to, or its connection broke."""

    exit_code = 3


class OperationFailed(RoadbedError):
    """Something on a host, or a build, failed."""

    exit_code = 4


class VerificationFailed(RoadbedError):
    """A check or a probe did not hold."""

    exit_code = 5


class Refused(RoadbedError):
    """Roadbed could, but will not without being told: a lock, a downgrade, a changed host key."""

    exit_code = 6
