"""Where a secret must not be seen: argv, output, logs, files that anybody can read."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roadbed.engine.load import load
from roadbed.engine.secrets import ACTION_KEY, Secrets

from .conftest import PROVISION, Stack
from .visit import Site

PAIR = ("pair-12", "pair-13")


class Listener(threading.Thread):
    """Reads the command lines of all processes, those of the machines included, until it is told to end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.03):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(place.read_bytes())
                except OSError:  # it has ended
                    continue


READABLE = (
    "find / -xdev \\( -path /proc -o -path /sys \\) -prune -o -type f -perm /o=r -size -20M -print0 "
    "| xargs -0 grep -lF -f /root/needles; true"
)


@pytest.fixture
def guarded(pair: Stack) -> Iterator[Stack]:
    """The pair, whose app may be given a secret for the time being."""
    yield pair
    pair.write(app={"secrets": []})
    pair.converge()


def soon(holds: Callable[[], bool], seconds: float = 15) -> bool:
    """Whether it holds within some seconds; that a rollout loses no request is the claim of other tests."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def test_no_secret_is_seen_on_the_way_or_left_readable(guarded: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed secret goes to the machines while every command line is read; then all that anybody can read is."""
    token = "token-" + os.urandom(12).hex()
    store = ["secrets", "set", "REVALIDATE_TOKEN", "-i", str(guarded.path)]
    subprocess.run([PROVISION, *store], input=token, text=True, check=True, env=guarded.environment)
    monkeypatch.setenv("ROADBED_IDENTITY", guarded.environment["ROADBED_IDENTITY"])
    secrets = Secrets(load(str(guarded.path)).beside(".secrets.age"))
    needles = [token, secrets.get(ACTION_KEY), Path(guarded.environment["ROADBED_IDENTITY"]).read_text().split()[-1]]
    guarded.write(app={"secrets": ["REVALIDATE_TOKEN"]})
    listener = Listener()
    listener.start()
    done = guarded.provision("phase1", "--json", "--verbose")
    listener.over.set()
    listener.join()
    assert any(b"systemctl" in line for line in listener.seen)
    said = done.stdout + done.stderr + guarded.path.read_text() + secrets.path.read_bytes().decode("latin-1")
    for needle in needles:
        assert needle not in said
        assert not [line for line in listener.seen if needle.encode() in line]
    for name in PAIR:
        with Site(guarded.address(name)) as site:  # the secret has arrived where it belongs
            wanted = {"json": {"tag": "prices"}, "headers": {"Authorization": f"Bearer {token}"}}
            assert soon(lambda: site.post("/api/revalidate", **wanted).status_code == 200)  # noqa: B023
            assert site.post("/api/revalidate", json={"tag": "prices"}).status_code == 401
        guarded.ssh(name, "umask 077; cat > /root/needles", stdin="\n".join(needles[:2]) + "\n")
        try:
            assert guarded.ssh(name, READABLE) == ""
            assert guarded.ssh(name, "journalctl --no-pager -o export | grep -cFaf /root/needles; true").strip() == "0"
        finally:
            guarded.ssh(name, "rm /root/needles")
