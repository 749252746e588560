"""Is this host fit? Read-only questions, asked in one round trip before anything is changed."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from roadbed.deploys.app import SLOTS
from roadbed.deploys.context import Context, HostFacts
from roadbed.deploys.nginx import encodings
from roadbed.deploys.sizing import RESERVED_MB

from .session import Session

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04", "26.04")}
ARCHITECTURES = ("x86_64", "aarch64")
MIN_DISK_MB = 2048
"""Free MiB needed for packages (about 400), Node (200) and a few releases (150 each)."""
MIN_MEMORY_MB = 900
"""A 1 GB machine shows 950-980 MiB."""
MAX_SKEW_SECONDS = 30
"""Beyond this, TLS, apt's Release files and cache ages of several hosts disagree."""

SCRIPT = """
df -m --output=file,avail / /srv /var /opt 2>/dev/null | while read -r folder free; do
  case $folder in /*) echo "disk=$folder $free" ;; esac
done
read -r init < /proc/1/comm && echo "init=$init"
ours=0
if grep -qs Roadbed /etc/nginx/nginx.conf; then ours=1
elif [ "$(ls /etc/nginx/sites-enabled /etc/nginx/conf.d 2>/dev/null | grep -vE '^$|:$')" = default ] &&
  [ -z "$(dpkg --verify nginx-common 2>&1)" ]; then ours=1  # a package just installed: a run was interrupted here
fi
echo "ours=$ours"
ss -Hltnp 2>/dev/null | while read -r _ _ _ local _ process; do
  pid=${process#*pid=} unit=
  while read -r group && [ -z "$unit" ]; do
    case $group in *.service) unit=${group##*/} ;; esac
  done 2>/dev/null < "/proc/${pid%%,*}/cgroup"
  echo "listen=${local##*:} ${unit:--} $process"
done
while read -r key second rest; do
  case $key in
    model) [ "$second" != name ] || model=${rest#: } ;;
    flags) case " $rest " in *" sse4_2 "*) ;; *) echo "old_cpu=$model" ;; esac; break ;;
  esac
done < /proc/cpuinfo
echo "now=$(date +%s.%N)"
"""
"""Run on every host by every run, so what the shell can do by itself is not left to sed and awk."""


@dataclass(frozen=True)
class Finding:
    """One answer. ``level`` error means Roadbed will not work on the host as it is."""

    host: str
    what: str
    level: Literal["ok", "warning", "error"]
    message: str


def check_host(session: Session, ctx: Context, *, adopt: bool = False) -> list[Finding]:
    """Asks one connected host; the answers in a fixed order. Changes nothing.

    ``adopt``: an nginx that is not ours is fine.
    """
    result = session.read(SCRIPT, check=False)
    lines = [line.split("=", 1) for line in result.out.splitlines() if "=" in line]
    return [
        Finding(ctx.name, what, level, message)
        for what, level, message in [
            _system(ctx.me),
            _architecture(ctx.me),
            _init(dict(lines).get("init", "")),
            _memory(ctx),
            *_processor(ctx, dict(lines).get("old_cpu")),
            *_nginx(ctx),
            *_disks([value for key, value in lines if key == "disk"]),
            _clock(float(dict(lines)["now"]) - result.at),
            *_ports(ctx, [value for key, value in lines if key == "listen"], adopt or dict(lines).get("ours") == "1"),
        ]
    ]


def check_names(ctx: Context) -> Finding:
    """Whether the public name leads to a web host. A warning only: DNS may be switched last."""
    domain = ctx.inventory.app.domain
    addresses = {ctx.inventory.hosts[name].address for name in ctx.inventory.with_role("web")}
    tls = ctx.inventory.nginx.tls
    need = ". The authority issues no certificate before it leads to a web host" if tls.mode == "acme" else ""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(domain, 443, proto=socket.IPPROTO_TCP)}
    except OSError:
        return Finding("dns", "dns", "warning", f"app/domain: {domain} does not resolve yet{need}")
    if found & addresses:
        return Finding("dns", "dns", "ok", f"{domain} leads to {', '.join(sorted(found & addresses))}")
    leads = f"app/domain: {domain} leads to {', '.join(sorted(found))}, no web host{need}"
    return Finding("dns", "dns", "warning", leads)


Row = tuple[str, Literal["ok", "warning", "error"], str]


def _system(facts: HostFacts) -> Row:
    if facts.os_version in SUPPORTED.get(facts.os_id, ()):
        return "system", "ok", f"{facts.os_id} {facts.os_version}"
    known = "; ".join(f"{name} {', '.join(versions)}" for name, versions in SUPPORTED.items())
    return "system", "error", f"{facts.os_id} {facts.os_version} is not supported. Install one of: {known}"


def _architecture(facts: HostFacts) -> Row:
    if facts.arch in ARCHITECTURES:
        return "architecture", "ok", facts.arch
    return "architecture", "error", f"{facts.arch} is not supported. Use one of: {', '.join(ARCHITECTURES)}"


def _init(name: str) -> Row:
    if name == "systemd":
        return "init", "ok", "systemd"
    return (
        "init",
        "error",
        f"process 1 is {name or 'unknown'}, not systemd. Use a machine or a VM, not a plain container",
    )


def _memory(ctx: Context) -> Row:
    have = ctx.me.memory_mb
    if have < MIN_MEMORY_MB:
        return "memory", "error", f"{have} MiB of memory, {MIN_MEMORY_MB} MiB are needed. Use a larger machine"
    if "app" not in ctx.host.roles:
        return "memory", "ok", f"{have} MiB"
    try:
        return "memory", "ok", f"{have} MiB, less {RESERVED_MB} for the system: {ctx.sizing().explain()}"
    except ValueError as error:
        return "memory", "error", str(error)


def _processor(ctx: Context, old: str | None) -> Iterator[Row]:
    """``old``: the model, when the processor has no SSE4.2; None otherwise, and on other architectures than x86-64.

    The prebuilt libvips of Sharp wants x86-64-v2 (https://github.com/lovell/sharp/issues/4507). Without it the first
    image ends the instance by SIGILL, or Sharp does not load. A virtual machine with the type kvm64 or qemu64 is such a
    processor, whatever it runs on.
    """
    if old is not None and "app" in ctx.host.roles and ctx.inventory.app.images.service is None:
        yield (
            "processor",
            "warning",
            f"{old or 'it'} has no SSE4.2, and Sharp, by which Next.js resizes images, needs it: the first image may "
            "end an instance. Give the virtual machine the processor type host or x86-64-v2, or set app/images/service",
        )


def _nginx(ctx: Context) -> Iterator[Row]:
    """What the nginx of the host's own suite cannot do of what the inventory wants."""
    if "web" in ctx.host.roles and ctx.inventory.nginx.brotli and "br" not in encodings(ctx):
        yield (
            "nginx",
            "warning",
            f"no Brotli: {ctx.me.os_id} {ctx.me.os_version} has no module for it. gzip does the work; "
            "install a newer release of the system, or set nginx/brotli: false",
        )


def _disks(rows: list[str]) -> Iterator[Row]:
    seen: set[str] = set()
    for folder, _, free in (row.partition(" ") for row in rows):
        if not free or free in seen:
            continue
        seen.add(free)
        if int(free) < MIN_DISK_MB:
            yield "disk", "error", f"{folder} has {free} MiB free, {MIN_DISK_MB} MiB are needed. Free some space"
        else:
            yield "disk", "ok", f"{folder} has {int(free) / 1024:.1f} GiB free"


def _clock(skew: float) -> Row:
    if abs(skew) > MAX_SKEW_SECONDS:
        return "clock", "error", f"is {skew:+.0f} s off this machine's clock. Set it: timedatectl set-ntp true"
    return "clock", "ok", f"{skew * 1000:+.0f} ms from this machine's"


def _ports(ctx: Context, rows: list[str], nginx_is_ours: bool) -> Iterator[Row]:
    """Needed ports are free, or held by what Roadbed installed."""
    app = ctx.inventory.app
    needed = {80: "nginx.service", 443: "nginx.service"} if "web" in ctx.host.roles else {}
    if "app" in ctx.host.roles:
        needed |= {port: f"{app.name}@" for slot in SLOTS for port in app.ports(slot, 20)}
    taken = []
    for port, unit, process in (row.split(" ", 2) for row in rows):
        owner = needed.get(int(port)) if port.isdigit() else None
        if owner and not (unit.startswith(owner) and (owner != "nginx.service" or nginx_is_ours)):
            taken.append(f"{port} ({unit if unit != '-' else process})")
    if taken:
        yield "ports", "error", f"taken by something else: {', '.join(sorted(set(taken)))}. Stop it, or move app/port"
    elif needed:
        yield "ports", "ok", f"{', '.join(map(str, sorted(needed)[:2]))} ... free or ours"
