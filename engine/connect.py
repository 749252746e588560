"""Open one SSH connection: socket options, strict host keys, and errors that say what to do."""

import socket

import paramiko

from .errors import HostUnreachable, Refused
from .hostkeys import KnownHosts, entry_name
from .inventory import Inventory
from .session import Session

CONNECT_SECONDS = 10.0


class _RecordFirstKey(paramiko.MissingHostKeyPolicy):
    """Records the key of a host that was never seen; a changed key never gets here."""

    def __init__(self, host: str, port: int, address: str, known: KnownHosts) -> None:
        self._host, self._port, self._address, self._known = host, port, address, known

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        self._known.check(self._host, self._address, self._port, key)


def open_session(inventory: Inventory, name: str, known: KnownHosts, *, sudo_password: str | None = None) -> Session:
    """Connects to a host and finds out how to become root.

    Raises HostUnreachable (no answer, no login, no sudo) or Refused (changed host key).
    """
    client = _login(inventory, name, known)
    root = inventory.ssh.user == "root"
    if root:
        return Session(name, client, root=True)
    need = sudo_password if _sudo_needs_password(client) else None
    if need is None and _sudo_needs_password(client):
        client.close()
        raise HostUnreachable(
            f"{name}: sudo of {inventory.ssh.user} wants a password. "
            f"Allow it without one ('{inventory.ssh.user} ALL=(ALL) NOPASSWD: ALL' in /etc/sudoers.d/), "
            "or run with --ask-sudo-password"
        )
    if need is not None and not _sudo_accepts(client, need):
        client.close()
        raise HostUnreachable(f"{name}: sudo did not accept the password of {inventory.ssh.user}")
    return Session(name, client, root=False, sudo_password=need)


def _login(inventory: Inventory, name: str, known: KnownHosts) -> paramiko.SSHClient:
    ssh, address = inventory.ssh, inventory.hosts[name].address
    client = paramiko.SSHClient()
    if known.path.exists():
        client.load_host_keys(str(known.path))
    client.set_missing_host_key_policy(_RecordFirstKey(name, ssh.port, address, known))
    try:
        sock = _jump(inventory, known, address) if ssh.jump else _connect(address, ssh.port)
        client.connect(
            address,
            port=ssh.port,
            username=ssh.user,
            key_filename=str(ssh.key.expanduser()) if ssh.key else None,
            allow_agent=ssh.key is None,
            look_for_keys=ssh.key is None,
            sock=sock,
            timeout=CONNECT_SECONDS,
            banner_timeout=CONNECT_SECONDS,
            auth_timeout=CONNECT_SECONDS,
        )
    except paramiko.BadHostKeyException as error:
        entry = entry_name(address, ssh.port)
        raise Refused(
            f"{name}: the host key of {entry} has changed. Either the machine was installed again or somebody "
            f"is in between. If it was installed again: ssh-keygen -R '{entry}' -f {known.path}"
        ) from error
    except FileNotFoundError as error:
        raise HostUnreachable(f"ssh/key: {ssh.key} does not exist. Name the private key file") from error
    except paramiko.PasswordRequiredException as error:
        raise HostUnreachable(
            f"ssh/key: {ssh.key} has a passphrase. Add it to the SSH agent and leave ssh/key out"
        ) from error
    except paramiko.AuthenticationException as error:
        with_key = f"the key {ssh.key}" if ssh.key else "any key of the SSH agent or ~/.ssh"
        raise HostUnreachable(
            f"{name}: {ssh.user}@{address} does not accept {with_key}. "
            f"Put its public half in ~{ssh.user}/.ssh/authorized_keys"
        ) from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise HostUnreachable(f"{name}: cannot reach {address} port {ssh.port}: {_reason(error)}") from error
    return client


def _connect(address: str, port: int) -> socket.socket:
    sock = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 4),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 10_000),
    ):
        if hasattr(socket, option):  # macOS has other names and no user timeout
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


def _jump(inventory: Inventory, known: KnownHosts, address: str) -> paramiko.Channel:
    """A channel to ``address`` through ``ssh.jump``; the jump host's key is as strict as the others."""
    ssh = inventory.ssh
    user, _, place = (ssh.jump or "").rpartition("@")
    jump_host, _, port = place.partition(":")
    client = paramiko.SSHClient()
    if known.path.exists():
        client.load_host_keys(str(known.path))
    client.set_missing_host_key_policy(_RecordFirstKey("ssh/jump", int(port or 22), jump_host, known))
    client.connect(
        jump_host,
        port=int(port or 22),
        username=user or ssh.user,
        key_filename=str(ssh.key.expanduser()) if ssh.key else None,
        allow_agent=ssh.key is None,
        look_for_keys=ssh.key is None,
        sock=_connect(jump_host, int(port or 22)),
        timeout=CONNECT_SECONDS,
    )
    transport = client.get_transport()
    if transport is None:
        raise EOFError("the jump host closed the connection")
    channel = transport.open_channel("direct-tcpip", (address, ssh.port), ("127.0.0.1", 0), timeout=CONNECT_SECONDS)
    channel.jump_client = client  # type: ignore[attr-defined]  # keeps the first hop open as long as the second
    return channel


def _sudo_needs_password(client: paramiko.SSHClient) -> bool:
    _, out, _ = client.exec_command("sudo -n true", timeout=15)
    return out.channel.recv_exit_status() != 0


def _sudo_accepts(client: paramiko.SSHClient, password: str) -> bool:
    stdin, out, _ = client.exec_command("sudo -k -S -p '' true", timeout=15)
    stdin.write(password + "\n")
    stdin.flush()
    stdin.channel.shutdown_write()
    return out.channel.recv_exit_status() == 0


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        return "the connection was refused"
    return str(error).strip() or type(error).__name__
