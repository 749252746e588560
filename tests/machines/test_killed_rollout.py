"""Rollouts whose control process is killed: the site keeps answering, and the next deploy or rollback finishes.

Slow, so it is part of a ring of its own: ``pytest tests/machines -m kill -s``. ROADBED_SEED repeats the moments.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roadbed.machines.model import MachineSpec

from .conftest import PROVISION, Stack, make_stack, spec
from .storefronts import edition
from .visit import DOMAIN, Site
from .visitors import Visitors

pytestmark = pytest.mark.kill
WEB, APPS = "killed-1", ("killed-1", "killed-2")
"""killed-1 is web and app host: in phase1 its nginx sends to its own instances, killed-3 is web only."""
FRONT = "killed-3"
FRONTS = (WEB, FRONT)
HOSTS = {"killed-1": (112, ["web", "app"]), "killed-2": (113, ["app"]), FRONT: (114, ["web"])}
ROUNDS = 20
SEED = int(os.environ.get("ROADBED_SEED") or random.randrange(10**6))  # noqa: S311
ROUTE, KEPT = "/var/lib/roadbed/storefront/route", "/var/lib/roadbed/storefront/skew"
RUNNING = "systemctl list-units --plain --no-legend --state=active,activating,deactivating 'storefront@*'"
LEFT = "ss -Hltn 'sport >= :5000 and sport <= :5059'"


class Killed:
    """The stack, two release files of it, and how long an undisturbed deploy takes, in seconds."""

    def __init__(self, stack: Stack, files: list[Path]) -> None:
        self.stack, self.files, self.seconds = stack, files, 0.0
        self.editions = dict[str, str]()
        """Release -> name of its file."""

    def other(self) -> Path:
        """The file of the release that does not serve."""
        live = self.serving()
        return next(file for file in self.files if file.name.partition(".tar")[0] != self.editions[live])

    def learn(self) -> None:
        """Deploys each release once: what it is called, and how long it takes."""
        for file in (*self.files, self.files[0]):
            began = time.monotonic()
            done = json.loads(self.stack.provision("deploy", "--source", str(file), "--json").stdout)
            self.seconds = time.monotonic() - began
            self.editions[done["release"]] = file.name.partition(".tar")[0]

    def serving(self) -> str:
        """The release that all web hosts serve."""
        found = set()
        for host in FRONTS:
            with Site(self.stack.address(host)) as site:
                found |= {site.get("/api/info").json()["release"] for _ in range(4)}
        (release,) = found
        return str(release)

    def run(self, host: str, command: str) -> str:
        return self.stack.ssh(host, command).strip()


@pytest.fixture(scope="module")
def killed(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Three machines at phase1, with a release that serves, one that is kept, and one more of the two at hand."""
    machines = [spec(name, number) for name, (number, _) in HOSTS.items()]
    booted(machines)
    folder = tmp_path_factory.mktemp("killed")
    stack = make_stack(folder, machines)
    for name, (_, roles) in HOSTS.items():
        stack.data["hosts"][name]["roles"] = roles
    stack.write(nginx={"limits": {"requests": 1000, "burst": 1000}})
    files = []
    for name in ("red", "blue"):
        stack.write(app={"source": str(edition(folder, name))})
        files.append(folder / f"{name}.tar.gz")
        stack.provision("build", "--output", str(files[-1]))
    stack.converge()
    found = Killed(stack, files)
    found.learn()
    print(f"\nROADBED_SEED={SEED}, an undisturbed deploy takes {found.seconds:.1f} s")
    return found


@pytest.fixture(scope="module")
def visitors(killed: Killed) -> Iterator[list[Visitors]]:
    """Requests to both web hosts from the first kill to the last."""
    with Visitors(killed.stack.address(WEB), DOMAIN) as first, Visitors(killed.stack.address(FRONT), DOMAIN) as second:
        yield [first, second]


def kill_at(killed: Killed, moment: float) -> tuple[Path, str]:
    """Deploys the other release and kills that with all its children after ``moment`` seconds.

    A run that has ended before is no kill: it is made again with the other release, and killed earlier. Returns the
    file of the release and the last word of the run.
    """
    while True:
        file = killed.other()
        words = [PROVISION, "deploy", "--source", str(file), "-i", str(killed.stack.path)]
        log = killed.stack.folder / "killed.log"
        with log.open("w") as said:
            run = subprocess.Popen(
                words,
                cwd=killed.stack.folder,
                env=killed.stack.environment,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            try:
                run.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
                return file, next(iter(reversed(log.read_text().strip().splitlines())), "nothing was said yet")
        assert run.returncode == 0, log.read_text()
        moment *= 0.9


def assert_clean(killed: Killed, release: str) -> None:
    """The instances of the release, one of at most one other, and no other; flags and ports as these want it."""
    slots = {killed.run(host, f"cd {ROUTE} && ls -d active.*") for host in FRONTS}
    assert len(slots) == 1
    live = slots.pop().removeprefix("active.")
    for host in APPS:
        assert killed.run(host, f"basename $(readlink /srv/storefront/slots/{live})") == release
        kept = killed.run(host, f"ls {KEPT}").split()
        wanted = {f"storefront@{live}-0.service", f"storefront@{live}-1.service"}
        wanted |= {f"storefront@{slot}-0.service" for slot in kept if slot != live}
        assert {line.split()[0] for line in killed.run(host, RUNNING).splitlines()} == wanted
        assert len(kept) <= 1
        ports = {line.split()[3].rpartition(":")[2] for line in killed.run(host, LEFT).splitlines()}
        numbers = {unit.partition("@")[2].removesuffix(".service") for unit in wanted}
        assert ports == {str(5000 + "abc".index(name[0]) * 20 + int(name[2:])) for name in numbers}
    for host in FRONTS:
        flags = killed.run(host, f"ls {ROUTE}").split()
        assert [flag for flag in flags if not flag.startswith(("active.", "old."))] == []
        assert killed.run(host, "nft list tables").count("roadbed_drain") == 0
    told: dict[str, Any] = json.loads(killed.stack.provision("status", "--json").stdout)
    assert told["last_run"]["outcome"] == "ok", told["last_run"]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_the_next_run_finishes_what_a_killed_one_began(killed: Killed, visitors: list[Visitors], number: int) -> None:
    """The moments are spread over the time of a whole deploy; the next run is a deploy or a rollback in turns."""
    moment = random.Random(SEED + number).uniform(number, number + 1) / ROUNDS * killed.seconds  # noqa: S311
    file, last = kill_at(killed, moment)
    words = ["rollback"] if number % 2 else ["deploy", "--source", str(file)]
    done = json.loads(killed.stack.provision(*words, "--json").stdout)
    print(f"\nkilled after {moment:.2f} s: {last}; then {words[0]} to {done['release']}")
    assert killed.serving() == done["release"]
    assert_clean(killed, done["release"])
    assert [failure for one in visitors for failure in one.failures] == []


def test_meanwhile_nobody_noticed(killed: Killed, visitors: list[Visitors]) -> None:
    total = sum(one.total for one in visitors)
    print(f"\n0 of {total} requests failed over {ROUNDS} killed rollouts")
    assert [failure for one in visitors for failure in one.failures] == []
    assert total > 20 * ROUNDS
    assert set(killed.editions) <= {name for one in visitors for name in one.releases}
