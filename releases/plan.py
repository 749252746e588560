"""The work of a rollout, as ``decide.py`` finds it and ``rollout.py`` does it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from .host_state import HostState
from .kept import Kept

Units = Mapping[str, tuple[str, ...]]
"""Host -> instances, such as ``{"app-1": ("b-0", "b-1")}``."""
Words = Mapping[str, tuple[str, ...]]
"""Host -> names of flags, or slots."""


@dataclass(frozen=True)
class Plan:
    """The work of a rollout, in the order of the fields. Empty fields: that is as it should be already.

    ``unflag_first``, ``unnote_first`` and ``stop_first`` clear slots of what interrupted rollouts left, or of a release
    that was kept. ``publish`` are web hosts whose files, ``switch`` whose flags differ. ``flag`` are web hosts that get
    the flag of ``keep``, ``note`` app hosts that note it; ``unflag`` and ``unnote`` take away those of other releases.
    ``retire`` are the instances of the release that served until now, and of one that was kept until now.

    ``keep`` is the release that is kept for open pages, ``instances`` are all that the new release has in the end, and
    ``before`` is the slot that served until now, where the traffic can go back to.
    """

    release: str
    slot: str
    keep: Kept | None
    before: str | None
    instances: Units
    unflag_first: Words
    unnote_first: Words
    upload: tuple[str, ...]
    stop_first: Units
    link: tuple[str, ...]
    start: Units
    enable: Units
    publish: tuple[str, ...]
    flag: tuple[str, ...]
    switch: tuple[str, ...]
    unflag: Words
    note: tuple[str, ...]
    retire: Units
    unnote: Words
    disable: Units
    current: tuple[str, ...]
    pay: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether the release runs everywhere as it should."""
        return not any(getattr(self, stage) for stage in STAGES)

    def releases_to_keep(self, state: HostState, number: int) -> list[str]:
        """What stays on a host's disk: the release, those it replaces and keeps, and the newest, ``number`` in all."""
        first = list(dict.fromkeys(name for name in (self.release, state.current, self.kept_release) if name))
        others = sorted((name for name in state.releases if name not in first), reverse=True)
        return [*first, *others[: max(0, number - len(first))]]

    @property
    def kept_release(self) -> str | None:
        """The release that is kept for open pages."""
        return self.keep.release if self.keep else None


STAGES = tuple(field.name for field in fields(Plan)[5:])
"""The fields that are work."""
