"""A login user whose sudo wants a password, and is sudo-rs as on Ubuntu 26.04: from bare machine to serving site."""

from collections.abc import Callable
from pathlib import Path

from roadbed.machines.model import MachineSpec

from .conftest import spec
from .test_bad_input import CLERK, PASSWORD, typed
from .tiny import page, tiny_stack

HOST = spec("typed-13", 247, "trixie")
RUST = "apt-get -q update && apt-get -q -y install sudo-rs && ln -s /usr/lib/cargo/bin/sudo /usr/local/bin/sudo"


def test_a_phase_and_a_deploy_with_a_typed_password(
    booted: Callable[[list[MachineSpec]], None], tmp_path: Path
) -> None:
    booted([HOST])
    stack = tiny_stack(tmp_path, [HOST])
    stack.ssh(HOST.name, CLERK)
    stack.ssh(HOST.name, f"export DEBIAN_FRONTEND=noninteractive; {{ {RUST}; }} >/dev/null")
    stack.write(ssh={"user": "clerk"})
    code, said = typed(stack, PASSWORD, "phase1", "-K", "--yes")
    assert code == 0, said
    assert "Edition one" in page(stack, HOST.name)
    code, said = typed(stack, PASSWORD, "phase1", "-K", "--yes")
    assert code == 0, said
    assert f"{HOST.name}: 0 changed" in said
    code, said = typed(stack, PASSWORD, "deploy", "-K")
    assert code == 0, said
