"""Become root on a host: with sudo that asks for nothing, or with a password that the user typed once."""

import paramiko

from .errors import HostUnreachable


def become_root(client: paramiko.SSHClient, name: str, user: str, password: str | None) -> str | None:
    """The password that sudo needs, or None. Asks sudo once with it: pam_faillock(8) counts what is wrong.

    Raises HostUnreachable when there is no way to become root.
    """
    barred = f"{name}: {user} may not use sudo. Put '{user} ALL=(ALL) ALL' in /etc/sudoers.d/"
    code, said = _ask_sudo(client, "sudo -n true")
    if code == 0:
        return None
    if _may_not(said):
        raise HostUnreachable(barred)
    if code == 127:
        raise HostUnreachable(f"{name}: there is no sudo. Install it, or log in as root (ssh/user: root)")
    if password is None:
        raise HostUnreachable(
            f"{name}: sudo of {user} wants a password. "
            f"Allow it without one ('{user} ALL=(ALL) NOPASSWD: ALL' in /etc/sudoers.d/), "
            "or run with --ask-sudo-password"
        )
    code, said = _ask_sudo(client, "sudo -k -S -p '' true", password)
    if code == 0:
        return password
    if _may_not(said):
        raise HostUnreachable(barred)
    raise HostUnreachable(f"{name}: sudo did not accept the password of {user}. Type the one of {user} on this host")


def _may_not(said: str) -> bool:
    """Whether sudo refuses the user, whatever the password: in the words of sudo, or of sudo-rs (Ubuntu 26.04)."""
    return "sudoers" in said or "not allowed" in said or "I'm afraid I can't do that" in said


def _ask_sudo(client: paramiko.SSHClient, command: str, password: str | None = None) -> tuple[int, str]:
    """Exit code and standard error; the password goes in by standard input, which then ends: no second try."""
    stdin, out, err = client.exec_command(command, timeout=15)
    if password is not None:
        stdin.write(password + "\n")
    stdin.channel.shutdown_write()
    return out.channel.recv_exit_status(), err.read().decode(errors="replace")
