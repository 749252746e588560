"""Copies of backups on the control machine: fetched and sent in a stream, encrypted on the way."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import paramiko
import pyrage

from .backups import NAME, BackupHost
from .errors import HostUnreachable, InventoryError, OperationFailed
from .secrets import identity, identity_path

AGE = b"age-encryption.org/"
"""How a file that age has encrypted begins (https://age-encryption.org/v1)."""
PIECE = 1 << 18
SEND = "cd FOLDER && runuser -u postgres -- tar -cf - -- NAME.dump NAME.rows NAME.info"
RECEIVE = """
cd FOLDER && runuser -u postgres -- sh -ceu '
umask 077
new=$(mktemp -d .new-XXXXXX)
trap "rm -rf -- $new" EXIT
tar -xf - -C $new --touch
stem=$(cd $new && ls -- *.dump) && stem=${stem%.dump}
case $stem in "" | *[!0-9TZ]*) echo "$stem is no name of a backup" >&2; exit 1 ;; esac
for part in rows info; do
  [ -f $new/$stem.$part ] || { echo "the copy is not whole: it has no $stem.$part" >&2; exit 1; }
done
for part in dump rows; do
  [ "$part $(sha256sum <$new/$stem.$part | cut -d" " -f1)" = "$(grep "^$part " $new/$stem.info)" ] ||
    { echo "$stem is damaged: the checksum of its .$part file differs" >&2; exit 1; }
done
chmod 600 $new/*
rm -f -- $stem.checked
for part in rows info dump; do mv -- $new/$stem.$part .; done
echo $stem'
"""


def download(host: BackupHost, name: str, target: Path, *, plain: bool) -> int:
    """Writes a copy of a backup to ``target``: a tar file of its three files, mode 600, encrypted unless ``plain``.

    Encrypted on the way: nothing else of it touches the disk of this machine. The file is there whole or not
    at all. Returns its size in bytes. Raises InventoryError when it cannot be written.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise InventoryError(f"--download: {target} cannot be written: {error.strerror}. Name another file") from None
    what = f"--download: {target} cannot be written"
    try:
        with os.fdopen(descriptor, "wb") as file, _stream(host, SEND, name, what) as channel:
            _pass_on(channel.makefile("rb", PIECE), file, encrypt=not plain)
            file.flush()
            _end(host, channel)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def _pass_on(source: paramiko.ChannelFile, file: IO[bytes], *, encrypt: bool) -> None:
    if encrypt:
        pyrage.encrypt_io(source, file, [identity().to_public()])
        return
    while piece := source.read(PIECE):
        file.write(piece)


def upload(host: BackupHost, source: Path) -> str:
    """Puts a copy back among the backups of the host, where it is kept as long as a new one. Returns its name.

    Raises InventoryError for a file that cannot be read or opened, OperationFailed for one that is no copy or
    is damaged: the host keeps nothing of it then.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise InventoryError(f"--upload: {source} cannot be read: {error.strerror}. Name another file") from None
    with file, _stream(host, RECEIVE, "", f"--upload: {source} cannot be read") as channel:
        encrypted = file.read(len(AGE)) == AGE
        file.seek(0)
        refused = _feed(channel, file, encrypted)
        if not refused:
            channel.shutdown_write()
        name = channel.makefile("rb").read().decode(errors="replace").strip()
        _end(host, channel)
    if not NAME.fullmatch(name):
        raise OperationFailed(f"{host.session.name}: {source} was not taken: '{name}'")
    return name


class _Sink:
    """A channel as pyrage writes to it. ``closed`` when the host wants no more: it says why."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self.closed = False

    def write(self, data: bytes) -> int:
        try:
            self._channel.sendall(data)
        except OSError:
            self.closed = True
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def _feed(channel: paramiko.Channel, file: IO[bytes], encrypted: bool) -> bool:
    """Sends the file. True when the host closed the channel before the end."""
    sink = _Sink(channel)
    try:
        if encrypted:
            pyrage.decrypt_io(file, sink, [identity()])
        while piece := file.read(PIECE):
            sink.write(piece)
    except OSError:
        if not sink.closed:
            raise
    return sink.closed


@contextlib.contextmanager
def _stream(host: BackupHost, script: str, name: str, what: str) -> Iterator[paramiko.Channel]:
    """A channel with the script at its end; what breaks on the way has a name. ``what`` is said of local files."""
    session = host.session
    text = script.replace("FOLDER", shlex.quote(host.folder)).replace("NAME", name)
    try:
        with session.start(text) as channel:
            yield channel
    except pyrage.DecryptError as error:
        raise InventoryError(
            f"{what}: the identity {identity_path()} does not open it ({error}). Name the right one in ROADBED_IDENTITY"
        ) from None
    except (OSError, EOFError, paramiko.SSHException, pyrage.EncryptError) as error:
        if not session.alive:
            raise HostUnreachable(f"{session.name}: the connection broke: {error or type(error).__name__}") from error
        if isinstance(error, TimeoutError):
            raise OperationFailed(f"{session.name}: nothing moved for some minutes, and the copy was left") from error
        raise InventoryError(f"{what}: {error}") from error


def _end(host: BackupHost, channel: paramiko.Channel) -> None:
    said = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
    if channel.recv_exit_status() != 0:
        if not host.session.alive:
            raise HostUnreachable(f"{host.session.name}: the connection broke")
        raise OperationFailed(f"{host.session.name}: {' / '.join(said.splitlines()[-3:]) or 'the copy broke off'}")
