"""Take the instances of one host out of the routing of every web host, without a reload of nginx, and put them back.

Two things on each web host that sends to it. A rule of nftables refuses nginx's new connections to the host, which
nginx passes over at once, for a POST too: nothing was sent yet. And a flag file makes nginx end its kept connections
to the app with the next answer on each, whichever host it is. So none is closed under a request, and when none is
left, nothing runs on the host that a visitor waits for. Both end by themselves: after ``SECONDS`` without a
renewal, and with a reboot of the web host. A run that was killed leaves nobody without requests for long.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from roadbed.deploys.app import MAX_REPLICAS, SLOTS
from roadbed.deploys.context import Context
from roadbed.deploys.environment import app_address
from roadbed.deploys.health import NGINX_USER
from roadbed.deploys.nginx import CONFIG, DRAIN
from roadbed.engine.errors import OperationFailed, RoadbedError
from roadbed.engine.session import Session

from .protocols import Answer, Fleet
from .scripts import script

SECONDS = 900
"""How long a host stays out if nobody renews it. A renewal is due every minute."""
RENEWAL = 60
IDLE = 60
"""Seconds after which nginx closes a kept connection that nobody used (its default keepalive_timeout upstream)."""
SPARE = 10
SETTLE = 1.0
"""Seconds after which what nginx was about to open is open: from then on there is no new connection."""
MARKER = "/var/lib/roadbed/patching"
"""On a host that is being patched, from before it leaves the routing until it is back."""


@dataclass
class Drain:
    """The host that is out of the routing of ``askers``, the web hosts which send to others too.

    ``ports``, first and last, are those of some of its instances; by default of all.
    """

    fleet: Fleet
    contexts: Mapping[str, Context]
    host: str
    askers: list[str]
    ports: tuple[int, int] | None = None
    _renewed: float = field(default=0.0)

    def begin(self) -> None:
        """Takes the host out. Raises what a web host raises; then ``end`` gives it back to the others."""
        self.check()
        self.renew(now=True)

    def check(self) -> None:
        """Raises OperationFailed when a web host cannot take the host out."""
        for web in self.askers:
            self._address(web)
        if missing := [web for web, there in self._each(_can_drain).items() if not there]:
            raise OperationFailed(
                f"{', '.join(missing)}: nginx has the settings of an older Roadbed, or nft is missing, so "
                f"{self.host} cannot be taken out of service first. Run the phase again that it is at, with the "
                "firewall or health enabled, which install nft"
            )

    def renew(self, *, now: bool = False, but: str = "") -> None:
        """Keeps the host out for another while; does something once a minute. ``but`` is an asker that is away."""
        askers = [web for web in self.askers if web != but]
        if not askers or (not now and time.monotonic() - self._renewed < RENEWAL):
            return
        self._each(self._take_out, askers)
        self._renewed = time.monotonic()

    def wait(self, longest: int, tell: Callable[[int], None]) -> int:
        """Waits until nginx has no connection to the host, at most as long as a request may take (``longest``, in
        seconds) or a kept connection stays. Returns how many are left; ``tell`` is told how many there are.

        Raises OperationFailed when a web host opens new ones: something undoes the rule.
        """
        end = time.monotonic() + max(longest, IDLE) + SPARE
        time.sleep(SETTLE)
        before = there = self._each(self._connections)
        while (left := sum(map(len, there.values()))) and time.monotonic() < end:
            tell(left)
            self.renew()
            time.sleep(1)
            there = self._each(self._connections)
            if new := [web for web, found in there.items() if _established(found) - _established(before[web])]:
                raise OperationFailed(
                    f"{', '.join(new)}: nginx goes on connecting to {self.host}, although nftables is to refuse that. "
                    "Look at `nft list table inet roadbed_drain` there, and at what else changes its rules"
                )
        return left

    def end(self) -> None:
        """Puts the host back; may be repeated."""
        self._each(put_back)

    def _each(self, work: Callable[[Session, str], Answer], askers: list[str] | None = None) -> dict[str, Answer]:
        good: dict[str, Answer] = {}
        for web, answer in self.fleet.each(self.askers if askers is None else askers, work).items():
            if isinstance(answer, RoadbedError):
                raise answer
            good[web] = answer
        return good

    def _ports(self) -> tuple[int, int]:
        if self.ports:
            return self.ports
        first = self.fleet.inventory.app.port
        return first, first + len(SLOTS) * MAX_REPLICAS - 1

    def _address(self, web: str) -> str:
        address = app_address(self.contexts[web], self.host)
        try:
            return str(ip_address(address))
        except ValueError:
            raise OperationFailed(
                f"hosts/{self.host}/private: '{address}' is a name, but a host is taken out of service by its address. "
                f"Write the IP address that {self.host} has on the inside"
            ) from None

    def _take_out(self, session: Session, web: str) -> int:
        address, (first, last) = self._address(web), self._ports()
        family = "ip6" if ":" in address else "ip"
        given = {"family": family, "address": address, "ports": f"{first}-{last}", "nginx": NGINX_USER}
        return session.run(script("take_out", **given, flag=DRAIN, seconds=str(SECONDS))).rc

    def _connections(self, session: Session, web: str) -> set[str]:
        """The connections of nginx on a web host to the host: state, and address and port on its side."""
        address, (first, last) = self._address(web), self._ports()
        place = f"[{address}]" if ":" in address else address
        which = f"dst {place} and dport >= :{first} and dport <= :{last}"
        shown = f"ss -Htnp state connected '( {which} )' | awk '/\"nginx\"/ {{ print $1, $4 }}'"
        return set(session.run(shown).out.splitlines())


def _established(found: set[str]) -> set[str]:
    """Those over which requests can go: a refused one may be seen while it is being opened."""
    return {one for one in found if one.startswith("ESTAB ")}


def _can_drain(session: Session, _: str) -> int:
    found = session.run(f"command -v nft && command -v ss && grep -qF {DRAIN} {CONFIG}", check=False)
    return int(found.ok)


def put_back(session: Session, _: str = "") -> int:
    """Ends what ``take_out.sh`` did on a web host; nothing where it did nothing."""
    return session.run(script("put_back", flag=DRAIN)).rc


def mark(session: Session) -> None:
    """Writes on a host that it is being patched."""
    session.run(f"mkdir -p {MARKER.rpartition('/')[0]} && date -u +%Y-%m-%dT%H:%M:%SZ > {MARKER}")


def unmark(session: Session) -> None:
    """The host is patched, or at least serves as before."""
    session.run(f"rm -f {MARKER}")


def end_leftover(fleet: Fleet, hosts: Iterable[str]) -> list[str]:
    """Ends what a killed run left on ``hosts``; returns those it was on. Costs a question that can be asked ahead."""

    def one(session: Session, _: str) -> int:
        if session.read(f"[ ! -e {DRAIN} ] && [ ! -e {MARKER} ]", check=False).ok:
            return 0
        put_back(session)
        unmark(session)
        return 1

    return [host for host, answer in fleet.each(hosts, one).items() if answer == 1]
