"""apt's package lists and interrupted installations: two things pyinfra's apt operations take for granted."""

from collections.abc import Generator

from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

LISTS_STAMP = "/var/lib/roadbed/package-lists"


def patiently(command: str) -> str:
    """``command`` of apt or dpkg, tried again for up to 5 min while another one holds a lock.

    apt's own DPkg::Lock::Timeout covers neither the lock of the package lists, which apt-daily.service
    holds after a boot, nor dpkg called directly. What it printed is shown when it fails.
    """
    return f"""n=0
until said=$({command} 2>&1); do
  n=$((n + 1))
  case $said in
    *"Could not get lock"*|*"lock was locked by"*) if [ $n -lt 150 ]; then sleep 2; continue; fi;;
  esac
  printf '%s\\n' "$said" | tail -n 8 >&2
  exit 1
done"""


UPDATE_LISTS = (
    patiently("apt-get -q --error-on=any update")
    + f"\nmkdir -p -m 755 {LISTS_STAMP.rpartition('/')[0]} && touch {LISTS_STAMP}"
)
"""``--error-on=any``: without it apt-get(8) reports success when a mirror did not answer, and the next
installation fails for another reason."""
REPAIR = patiently("dpkg --force-confdef --force-confold --configure -a") + "\n" + patiently("apt-get -q -y -f install")


class PackagesAreWhole(FactBase[bool]):
    """Whether dpkg was never interrupted: no unfinished update of its database, no half-installed package."""

    def command(self) -> str:
        return 'if [ -z "$(ls -A /var/lib/dpkg/updates)$(dpkg --audit 2>&1)" ]; then echo whole; fi'

    default = bool

    def process(self, output: list[str]) -> bool:
        return "whole" in output


@operation()
def repair_packages() -> Generator[str, None, None]:
    """Finishes an installation that was killed: apt refuses to work until somebody does."""
    if not context.host.get_fact(PackagesAreWhole):
        yield REPAIR


class PackageListsAreFresh(FactBase[bool]):
    """Whether apt has package lists that are younger than ``hours`` and younger than its sources."""

    def command(self, hours: int) -> str:
        stamps = f"{LISTS_STAMP} /var/lib/apt/periodic/update-success-stamp"
        return (
            f"for s in {stamps}; do "
            f'if [ -n "$(find $s -mmin -{hours * 60} 2>/dev/null)" ] && '
            '[ -z "$(find /etc/apt/sources.list /etc/apt/sources.list.d -newer $s 2>/dev/null)" ] && '
            "ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then echo fresh; break; fi; done"
        )

    default = bool

    def process(self, output: list[str]) -> bool:
        return "fresh" in output


@operation()
def refresh_package_lists(hours: int) -> Generator[str, None, None]:
    """Runs ``apt-get update`` when the lists are missing, older than ``hours``, or older than a changed source."""
    if context.host.get_fact(PackageListsAreFresh, hours=hours):
        context.host.noop(f"the package lists are younger than {hours} h")
        return
    yield UPDATE_LISTS
