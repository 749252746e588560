"""A machine's disk: an overlay on the shared base image, and the files that make it this machine."""

import os
import shutil
import uuid
from pathlib import Path

from roadbed.machines import carried, commands, registry
from roadbed.machines.model import MachinesError, MachineSpec

INIT = "/usr/local/sbin/rehearsal-init"
_INIT = Path(__file__).with_name("init.sh")
_LONG_AGO = 1577836800  # 2020-01-01


def folder(name: str) -> Path:
    """The folder of the machine's disk and console log."""
    return registry.RUN / name


def root(name: str) -> Path:
    """The machine's / as this machine sees it."""
    return folder(name) / "root"


def mounted(name: str) -> bool:
    """False for a machine whose disk did not survive a reboot of the control machine."""
    return root(name).is_mount()


def create(spec: MachineSpec, image: Path, settings: carried.Carried, public_key: str) -> str:
    """Make a fresh disk on the base `image` and return the machine's public SSH host key.

    `public_key` may log in as admin and root. Raises MachinesError where overlayfs cannot be mounted.
    """
    remove(spec.name)
    _mount(spec.name, image)
    here = root(spec.name)
    _identify(here, spec, settings)
    _carry(here, spec, settings)
    for home in (here / "root", here / "home/admin"):
        _authorize(home, public_key)
    shutil.copyfile(_INIT, here / INIT.lstrip("/"))
    (here / INIT.lstrip("/")).chmod(0o755)
    # The empty lists folder bears the image's date; tools that judge by it would skip `apt-get update`.
    os.utime(here / "var/lib/apt/lists", (_LONG_AGO, _LONG_AGO))
    return _host_key(here)


def remove(name: str) -> None:
    """Unmount and delete the machine's disk, if there is one."""
    commands.remove_tree(folder(name))


def _mount(name: str, image: Path) -> None:
    layers = folder(name) / "layers"
    for needed in (root(name), layers / "upper", layers / "work"):
        needed.mkdir(parents=True)
    # volatile: no fsync reaches the real disk. A rehearsal's disk need not survive a power cut, and is not
    # used again after one. redirect_dir: folders of the image can be renamed, as on a real disk.
    options = f"lowerdir={image},upperdir={layers}/upper,workdir={layers}/work,volatile,redirect_dir=on"
    try:
        commands.run("mount", "-t", "overlay", "overlay", "-o", options, str(root(name)))
    except MachinesError as error:
        raise MachinesError(
            f"{registry.STATE}: no overlay can be mounted there ({error}). It needs Linux 5.10 and a local file "
            "system such as ext4, xfs or btrfs, not a container's own; or rehearse in a virtual machine."
        ) from error


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.unlink(missing_ok=True)  # never through a link that leads out of the machine's disk
    path.touch(mode=mode)
    path.write_text(text)
    path.chmod(mode)


def _identify(here: Path, spec: MachineSpec, settings: carried.Carried) -> None:
    _write(here / "etc/hostname", f"{spec.name}\n")
    # sudo looks the host's own name up and complains with every command when it is not there.
    _write(here / "etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{spec.address} {spec.name}\n")
    _write(here / "etc/resolv.conf", settings.resolv_conf)
    _write(here / "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)


def _carry(here: Path, spec: MachineSpec, settings: carried.Carried) -> None:
    bundle = here / carried.BUNDLE.lstrip("/")
    extra = carried.extra_certificates(settings.certificates, bundle.read_text())
    _trust(here, bundle, extra)
    environment = carried.environment_file(settings, str(spec.subnet), bool(extra))
    _write(here / "etc/environment", environment)
    if kept := carried.sudoers_file(environment):
        _write(here / "etc/sudoers.d/91-control-machine", kept, 0o440)
    if proxy := carried.apt_file(settings):
        _write(here / "etc/apt/apt.conf.d/90-control-machine", proxy)


def _trust(here: Path, bundle: Path, extra: list[str]) -> None:
    # What update-ca-certificates does, without its second of work for 140 others; it finds the same files.
    for number, pem in enumerate(extra):
        name = f"control-machine-{number}"
        _write(here / f"usr/local/share/ca-certificates/{name}.crt", f"{pem}\n")
        (bundle.parent / f"{name}.pem").symlink_to(f"/usr/local/share/ca-certificates/{name}.crt")
        digest = commands.run("chroot", str(here), "openssl", "x509", "-noout", "-hash", text=pem).strip()
        links = (bundle.parent / f"{digest}.{rank}" for rank in range(10))
        next(link for link in links if not link.is_symlink()).symlink_to(f"{name}.pem")
    if extra:
        _write(bundle, bundle.read_text() + "".join(f"{pem}\n" for pem in extra))


def _authorize(home: Path, public_key: str) -> None:
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    _write(ssh / "authorized_keys", f"{public_key.strip()}\n", 0o600)
    owner = home.stat()
    for path in (ssh, ssh / "authorized_keys"):
        os.chown(path, owner.st_uid, owner.st_gid)


def _host_key(here: Path) -> str:
    key = here / "etc/ssh/ssh_host_ed25519_key"
    commands.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key))
    return key.with_suffix(".pub").read_text().strip()
