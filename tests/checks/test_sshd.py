"""sshd: the hardening of the firewall component is in effect."""

import paramiko
import pytest
from testinfra.host import Host

from roadbed.deploys.context import Context
from roadbed.deploys.sshd import EFFECTIVE
from roadbed.engine.session import Session

ROLES = ("*",)


def applies(ctx: Context) -> bool:
    """Only where the inventory wants it."""
    return ctx.inventory.firewall.ssh_hardening


def _effective(host: Host) -> dict[str, str]:
    lines = host.check_output(f"mkdir -p -m 755 /run/sshd; {EFFECTIVE}").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("passwordauthentication", "no"),
        ("kbdinteractiveauthentication", "no"),
        ("permitemptypasswords", "no"),
        ("x11forwarding", "no"),
        ("allowtcpforwarding", "local"),
        ("maxauthtries", "4"),
        ("logingracetime", "30"),
        ("usedns", "no"),
    ],
)
def test_setting(host: Host, setting: str, value: str) -> None:
    """sshd uses the hardened setting."""
    assert _effective(host)[setting] == value


def test_root_needs_a_key(host: Host) -> None:
    """root may log in with a key only."""
    assert _effective(host)["permitrootlogin"] in ("without-password", "prohibit-password")


def test_no_weak_algorithms(host: Host) -> None:
    """sshd offers no SHA-1 or 64 bit integrity and no CBC cipher."""
    effective = _effective(host)
    offered = [*effective["macs"].split(","), *effective["ciphers"].split(",")]
    assert [name for name in offered if "sha1" in name or "umac-64" in name or "cbc" in name] == []


def test_passwords_are_not_offered(ctx: Context, session: Session) -> None:
    """The running sshd offers root no other way in than a key."""
    outer = session.client.get_transport()
    assert outer is not None
    port = ctx.inventory.ssh.port
    transport = paramiko.Transport(outer.open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0)))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_none("root")
        assert refused.value.allowed_types == ["publickey"]
    finally:
        transport.close()
