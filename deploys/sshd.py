"""sshd hardening, a part of the firewall component: one file in sshd_config.d, proven before it is kept."""

from collections.abc import Generator
from typing import TYPE_CHECKING

from pyinfra import context
from pyinfra.api.operation import operation

from .files import FileState
from .guard import guarded_file
from .render import render

if TYPE_CHECKING:
    from .context import Context

SETTINGS = "/etc/ssh/sshd_config.d/10-roadbed.conf"
"""sshd keeps the first value it reads of a setting (sshd_config(5)), and Debian and Ubuntu include this
folder at the top of sshd_config: 10- comes before cloud-init's 50-cloud-init.conf."""
EFFECTIVE = "sshd -T -C user=root,host=localhost,addr=127.0.0.1"
"""The settings sshd would use. It needs /run/sshd, which is missing while sshd waits for socket activation."""
VALIDATE = (
    "mkdir -p -m 755 /run/sshd && c=$(mktemp) && cat {file} /etc/ssh/sshd_config > $c && "
    "{ sshd -t -f $c; r=$?; rm -f $c; [ $r -eq 0 ]; }"
)
"""The new file in front of the whole configuration: sshd cannot check a part by itself."""
RELOAD = (
    "if systemctl -q is-active ssh.socket; then systemctl try-restart ssh.service; "
    "elif systemctl -q is-active ssh.service; then systemctl reload ssh.service; fi"
)
"""With socket activation (Ubuntu 22.10 and later) sshd does not survive a reload: it starts itself anew, and the port
is systemd's by then. A restart gets the socket again, and sessions go on (KillMode=process). An inactive one reads its
settings when it starts."""
PROVE = (
    f"mkdir -p -m 755 /run/sshd; {EFFECTIVE} | grep -qx 'passwordauthentication no' || "
    "{ echo 'sshd does not use it. Put Include /etc/ssh/sshd_config.d/*.conf at the top of /etc/ssh/sshd_config, "
    "and look for files that sort before it' >&2; exit 1; }"
)


def harden(ctx: "Context") -> None:
    """Keys only, short login time, no X11. Roadbed itself logs in with keys alone, so it cannot lock itself out."""
    guarded_file(
        name="Harden sshd",
        guard="sshd",
        dest=SETTINGS,
        content=render("firewall", SETTINGS, ctx),
        validate=VALIDATE,
        apply=RELOAD,
        prove=PROVE,
    )


@operation()
def soften() -> Generator[str, None, None]:
    """Takes back what ``harden`` wrote; sshd then uses the settings of the machine's owner alone."""
    if context.host.get_fact(FileState, path=SETTINGS) is not None:
        yield f"rm -f {SETTINGS} && {RELOAD}"
