"""Patch one host after the other: out of the routing, upgrade, reboot if needed, gate, checks, back into the routing.

What a host does is done by others meanwhile (``standins.py``). The first host that fails ends the run: those after it
are untouched. A run that is killed leaves a host that gets its requests back by itself (``drain.py``) and a mark,
by which the next run knows that it has to go on there.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from roadbed.deploys.app import AppSettings
from roadbed.deploys.context import Context
from roadbed.deploys.environment import instance_addresses
from roadbed.deploys.packages import UPDATE_LISTS
from roadbed.engine.errors import HostUnreachable, OperationFailed, RoadbedError
from roadbed.engine.fleet import Fleet
from roadbed.engine.session import Session

from . import drain, instances
from .drain import Drain
from .gate import gate
from .host_state import HostState, inspect
from .patch_plan import Pending, Reboot, Work, counted, parse
from .protocols import Report, Status
from .scripts import script

UNIT = "roadbed-patch.service"
LOG = "/var/log/roadbed-patch.log"
RESULT = "/var/lib/roadbed/patch.result"
UPGRADE_SECONDS = 3600
"""Longest upgrade: a slow disk, a slow mirror, a kernel whose modules are built."""
BOOT_SECONDS = 600
"""Longest way from the reboot to a system that is up. Bare metal checks its memory; a virtual machine takes 30 s."""
BROKEN_SECONDS = 120
"""Longest time without a connection while packages are being upgraded."""
Verify = Callable[[str], list[str]]
"""The quick checks of a host: those that do not hold, a line each."""


def look(session: Session, host: str, *, refresh: bool) -> Pending:
    """What patching ``host`` would do. ``refresh``: ask the archives of the packages first."""
    if refresh:
        session.run(UPDATE_LISTS, timeout=UPGRADE_SECONDS)
    given = {"marker": drain.MARKER, "unit": UNIT}
    return parse(host, session.run(script("pending", **given), timeout=300).out.splitlines())


@dataclass
class Done:
    """What was done on a host: the packages upgraded, whether it was rebooted, its boot id and kernel, in seconds."""

    host: str
    packages: tuple[str, ...] = ()
    rebooted: bool = False
    boot: str = ""
    kernel: str = ""
    seconds: float = 0.0
    left_waiting: str = ""
    """What is still to be done, such as a reboot that nobody accepted."""


@dataclass
class Patch:
    """One host's turn."""

    fleet: Fleet
    contexts: Mapping[str, Context]
    report: Report
    verify: Verify
    reboot: Reboot
    accepted: bool
    """Whether downtime is."""
    reconnected: Callable[[Session, str], None]
    """Told of a new connection to a host: its lock ended with the old one."""

    def host(self, work: Work) -> Done:
        """Patches a host. Raises RoadbedError that says how it stands."""
        self._host, self._began = work.host, time.monotonic()
        out = Drain(self.fleet, self.contexts, work.host, list(work.askers))
        done = Done(work.host, work.pending.packages, boot=work.pending.boot, kernel=work.pending.kernel)
        try:
            self._take_out(out)
            self._upgrade(work, out)
        except RoadbedError as error:
            self._undo(out)
            raise type(error)(f"{error}\n{work.host}: serves as before. {self._log(error)}".rstrip()) from None
        try:
            self._renew_programs(work, done, out)
            self._gate(out)
        except RoadbedError as error:
            raise type(error)(
                f"{error}\n{work.host}: is left out of service for up to {drain.SECONDS // 60} min, or until the next "
                "run. Look at it, then run the same command again"
            ) from None
        self._put_back(out)
        if problems := self.verify(work.host):
            shown = "\n".join(f"  {line}" for line in problems)
            raise OperationFailed(f"{work.host}: is patched and in service, but these checks do not hold:\n{shown}")
        self._tell("Check what it does", "unchanged")
        done.seconds = time.monotonic() - self._began
        return done

    @property
    def _session(self) -> Session:
        return self.fleet.session(self._host)

    def _tell(self, name: str, status: Status, seconds: float = 0.0, detail: str = "") -> None:
        self.report.operation(self._host, "patch", name, status, seconds, detail)

    def _take_out(self, out: Drain) -> None:
        began, longest = time.monotonic(), self.fleet.inventory.app.drain
        if not out.askers:
            return
        drain.mark(self._session)
        out.begin()
        left = out.wait(longest, lambda n: self.report.progress(self._host, f"Waiting for {n} connections to end"))
        detail = f"{left} connections are still open and will be cut" if left else ""
        self._tell("Take it out of service", "changed", time.monotonic() - began, detail)

    def _upgrade(self, work: Work, out: Drain) -> None:
        if not (work.pending.packages or work.pending.busy):
            return
        began, given = time.monotonic(), {"unit": UNIT, "log": LOG, "result": RESULT}
        self._session.run(script("upgrade", **given))
        while True:
            said = self._ask(script("upgraded", **given)).strip()
            state, _, rest = said.partition("\n")
            if state != "running":
                break
            if time.monotonic() - began > UPGRADE_SECONDS:
                raise OperationFailed(
                    f"{self._host}: the upgrade is not over after {UPGRADE_SECONDS // 60} min: {rest}"
                )
            self.report.progress(self._host, f"Upgrading {counted(work.pending.packages)}: {rest[:60]}")
            out.renew()
            time.sleep(2)
        if state != "ended 0":
            raise OperationFailed(f"{self._host}: the upgrade failed ({state}):\n{rest}")
        names = ", ".join(work.pending.packages)
        title = (
            "Finish the upgrade of an earlier run" if work.pending.busy else f"Upgrade {counted(work.pending.packages)}"
        )
        self._tell(title, "changed", time.monotonic() - began, names)

    def _ask(self, command: str) -> str:
        """The answer to a question, also when the upgrade of sshd or of the network breaks the connection meanwhile."""
        end = time.monotonic() + BROKEN_SECONDS
        while True:
            try:
                return self._session.run(command).out
            except HostUnreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(1)
                with suppress(HostUnreachable):
                    self.reconnected(self.fleet.reconnect(self._host), self._host)

    def _renew_programs(self, work: Work, done: Done, out: Drain) -> None:
        """A reboot where one is needed, else new instances, so that they use what was installed."""
        now = look(self._session, self._host, refresh=False)
        wanted = self.reboot == "always" or (self.reboot == "auto" and now.required)
        if wanted and not work.reboot and not self.accepted and work.meanwhile.lost:
            wanted, done.left_waiting = False, "a reboot, which nobody stands in for: --accept-downtime"
        if wanted:
            self._boot(now, done, out)
        elif work.pending.packages and out.askers:
            began, names = time.monotonic(), " ".join(f"{self._app.name}@{n}.service" for n in self._state().enabled)
            if names:
                self._session.run(f"systemctl restart {names}", timeout=self._app.drain + instances.STOP_SPARE)
                self._tell("Start the instances anew", "changed", time.monotonic() - began)
        if now.required and not wanted and not done.left_waiting:
            done.left_waiting = "a reboot"

    def _boot(self, now: Pending, done: Done, out: Drain) -> None:
        began = time.monotonic()
        self.report.progress(self._host, "Rebooting")
        stop = f"nginx -s quit; for i in $(seq {self._app.drain}); do pgrep -x nginx >/dev/null || break; sleep 1; done"
        quiet = f"! systemctl -q is-active nginx || {{ {stop}; }}"
        self._session.run(f"{quiet}; (sleep 1; systemctl reboot) >/dev/null 2>&1 &", timeout=self._app.drain + 60)
        boot = self._wait_for_boot(now.boot, out)
        done.rebooted, done.boot, done.kernel = True, boot.boot, boot.kernel
        self._tell("Reboot", "changed", time.monotonic() - began, f"kernel {now.kernel} -> {boot.kernel}")

    def _wait_for_boot(self, before: str, out: Drain) -> Pending:
        """Until the host is up under another boot id: one that shuts down answers too, with the old or no state."""
        end, said = time.monotonic() + BOOT_SECONDS, "no answer"
        while time.monotonic() < end:
            time.sleep(1)
            out.renew(but=self._host)
            try:
                session = self.fleet.reconnect(self._host)
                state = session.run("systemctl is-system-running", check=False).out.strip()
                now = look(session, self._host, refresh=False) if state in ("running", "degraded") else None
            except (HostUnreachable, OperationFailed) as error:
                said = str(error)
                continue
            said = f"its system is {state or 'going down'}"
            if now and now.boot != before:
                self.reconnected(session, self._host)
                return now
        raise HostUnreachable(f"{self._host}: is not back {BOOT_SECONDS // 60} min after its reboot: {said}")

    def _gate(self, out: Drain) -> None:
        """The instances that start at boot are healthy: each slot's under the release that is in it."""
        if "app" not in self.fleet.inventory.roles_of(self._host):
            return
        began, state = time.monotonic(), self._state()
        if not state.enabled:
            return
        self.report.progress(self._host, f"Waiting until {self._app.health} is healthy")
        out.renew(now=True)  # its own nginx has forgotten it with the reboot
        instances.start(self._session, self._app, sorted(state.enabled))
        addresses = instance_addresses(self.contexts[self._host], self._host)
        for slot in sorted({name[0] for name in state.enabled}):
            out.renew()
            names = sorted(name for name in state.enabled if name[0] == slot)
            if slot not in state.slots:
                raise OperationFailed(f"{self._host}: {', '.join(names)} start at boot, and slot {slot} has no release")
            verdict = gate(self._session, self._app, state.slots[slot], addresses, names)
            if verdict.unhealthy:
                raise OperationFailed(f"{self._host}: " + "\n".join(map(str, verdict.unhealthy)))
        self._tell("Hold the instances at the health gate", "unchanged", time.monotonic() - began)

    def _put_back(self, out: Drain) -> None:
        out.end()
        drain.unmark(self._session)
        if out.askers:
            self._tell("Put it back into service", "changed")

    def _undo(self, out: Drain) -> None:
        """Nothing was stopped yet: the host may have its requests back."""
        with suppress(RoadbedError):  # else the routing comes back by itself, and the mark has the next run look
            self._put_back(out)

    def _log(self, error: RoadbedError) -> str:
        return f"What apt said: {LOG}" if "upgrade" in str(error) else ""

    @property
    def _app(self) -> AppSettings:
        return self.fleet.inventory.app

    def _state(self) -> HostState:
        return inspect(self._session, self._app)
