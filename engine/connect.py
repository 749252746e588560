"""Open one SSH connection: socket options, strict host keys, and errors that say what to do."""

import logging
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import paramiko

from .become import become_root
from .errors import HostUnreachable, InventoryError, Refused, RoadbedError
from .hostkeys import KnownHosts, changed_key, entry_name
from .inventory import Inventory
from .session import Session

CONNECT_SECONDS = 10.0
logging.getLogger("paramiko").propagate = False  # what matters is in our errors
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _RecordFirstKey(paramiko.MissingHostKeyPolicy):
    """Records the key of a host that was never seen; a changed key never gets here."""

    def __init__(self, host: str, port: int, address: str, known: KnownHosts) -> None:
        self._host, self._port, self._address, self._known = host, port, address, known

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        self._known.check(self._host, self._address, self._port, key)


def open_session(inventory: Inventory, name: str, known: KnownHosts, *, sudo_password: str | None = None) -> Session:
    """Connects to a host and finds out how to become root.

    Raises HostUnreachable (no answer, no login, no sudo), Refused (changed host key), or InventoryError
    (no key file).
    """
    ssh, address = inventory.ssh, inventory.hosts[name].address
    way = _jump(inventory, name, known) if ssh.jump else None
    client = _login(inventory, name, ssh.user, address, ssh.port, known, way)
    if ssh.user == "root":
        return Session(name, client, root=True)
    session = Session(name, client, root=False)
    try:
        if sudo_password is None and session.opens():
            return session
        password = become_root(client, name, ssh.user, sudo_password)
    except RoadbedError:
        client.close()
        raise
    return Session(name, client, root=False, sudo_password=password)


def key_file(inventory: Inventory, host: str | None = None) -> Path | None:
    """The private key to log in with, to ``host`` or to the jump host; None: the SSH agent and ~/.ssh.

    Raises InventoryError when the file is missing.
    """
    own = inventory.hosts[host].key if host else None
    key, place = (own, f"hosts/{host}/key") if own else (inventory.ssh.key, "ssh/key")
    if key is None:
        return None
    path = inventory.path.parent / key.expanduser()
    if not path.is_file():
        way = "Name the private key file, relative to the inventory"
        if path.parent.name == "machines":  # of the rehearsal
            way = f"It comes with the rehearsal's machines: provision machines up -i {inventory.name}"
        raise InventoryError(f"{place}: {path} does not exist. {way}")
    return path


def _login(
    inventory: Inventory, what: str, user: str, address: str, port: int, known: KnownHosts, way: paramiko.Channel | None
) -> paramiko.SSHClient:
    """One SSH login. ``what`` begins every error; ``way`` is the connection to use instead of a new one."""
    key = key_file(inventory, what if what in inventory.hosts else None)  # not so for a jump host
    client = paramiko.SSHClient()
    if known.path.exists():
        client.load_host_keys(str(known.path))
    client.set_missing_host_key_policy(_RecordFirstKey(what, port, address, known))
    with ExitStack() as failing:
        failing.callback(client.close)
        try:
            client.connect(
                address,
                port=port,
                username=user,
                key_filename=str(key) if key else None,
                allow_agent=key is None,
                look_for_keys=key is None,
                sock=way or _connect(address, port),
                timeout=CONNECT_SECONDS,
                banner_timeout=CONNECT_SECONDS,
                auth_timeout=CONNECT_SECONDS,
            )
        except paramiko.BadHostKeyException as error:
            raise Refused(changed_key(what, entry_name(address, port), error.key, known.path)) from error
        except paramiko.PasswordRequiredException as error:
            raise HostUnreachable(
                f"ssh/key: {key} has a passphrase. Add it to the SSH agent and leave ssh/key out"
            ) from error
        except paramiko.AuthenticationException as error:
            with_key = f"the key {key}" if key else "any key of the SSH agent or ~/.ssh"
            raise HostUnreachable(
                f"{what}: {user}@{address} does not accept {with_key}. "
                f"Put its public half in ~{user}/.ssh/authorized_keys"
            ) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise HostUnreachable(
                f"{what}: cannot reach {address} port {port}: {_reason(error)}. "
                "Check the address, ssh/port, and the firewalls on the way"
            ) from error
        failing.pop_all()
    return client


def _connect(address: str, port: int) -> socket.socket:
    sock = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Something sent while the link is cut stops the keepalive probes, and the user timeout begins anew with it
    # (tcp_keepalive_timer in net/ipv4/tcp_timer.c): a cut is noticed after 7 to 14 s.
    for option, value in (
        ("TCP_KEEPIDLE", 4),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 7_000),
    ):
        if hasattr(socket, option):  # macOS has other names and no user timeout
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


def _jump(inventory: Inventory, name: str, known: KnownHosts) -> paramiko.Channel:
    """A channel to a host through ``ssh.jump``; the jump host's key is as strict as the others."""
    ssh, address = inventory.ssh, inventory.hosts[name].address
    user, _, place = (ssh.jump or "").rpartition("@")
    jump_host, _, port = place.partition(":")
    client = _login(inventory, f"{name}: ssh/jump", user or ssh.user, jump_host, int(port or 22), known, None)
    transport = client.get_transport()
    try:
        if transport is None:
            raise EOFError("the connection ended")
        channel = transport.open_channel("direct-tcpip", (address, ssh.port), ("127.0.0.1", 0), timeout=CONNECT_SECONDS)
    except (OSError, EOFError, paramiko.SSHException) as error:
        client.close()
        raise HostUnreachable(
            f"{name}: ssh/jump: {jump_host} does not get through to {address} port {ssh.port}: {_reason(error)}. "
            "Check the address, the firewall of the host, and AllowTcpForwarding of the jump host"
        ) from error
    close = channel.close

    def close_both() -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):  # the way may have ended first
            close()
        client.close()

    channel.close = close_both  # type: ignore[method-assign]  # the first hop ends with the second
    return channel


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    if isinstance(error, paramiko.ChannelException):
        return error.text.lower()
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.strip().lower() or type(error).__name__
