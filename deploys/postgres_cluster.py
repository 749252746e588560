"""The cluster of PostgreSQL, a part of the postgres component: one, of the suite's version."""

from collections.abc import Generator

from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation


class OtherClusters(FactBase[list[str]]):
    """Major versions other than ``version`` of which this host has a PostgreSQL cluster."""

    def command(self, version: str) -> str:
        return f"ls -1 /etc/postgresql 2>/dev/null | grep -vx {version}; true"

    default = list

    def process(self, output: list[str]) -> list[str]:
        return [line for line in output if line]


@operation()
def refuse_other_clusters(version: str) -> Generator[str, None, None]:
    """Fails where a cluster of another version is: a new, empty one beside it would be taken for the data."""
    if found := context.host.get_fact(OtherClusters, version=version):
        yield (
            f"echo 'postgres: this host has a cluster of PostgreSQL {', '.join(found)}, and its suite brings "
            f"{version}. Move the data first: pg_upgradecluster {found[0]} main; pg_dropcluster {found[0]} main' >&2; "
            "exit 1"
        )


class LacksCluster(FactBase[bool]):
    """Whether the server is installed and has no cluster: its data was removed, and the package stayed."""

    def command(self, version: str) -> str:
        server = f"/usr/lib/postgresql/{version}/bin/initdb"
        return f"[ -e {server} ] && [ ! -e /etc/postgresql/{version}/main ] && echo yes; true"

    def process(self, output: list[str]) -> bool:
        return "yes" in output


@operation()
def make_cluster(version: str) -> Generator[str, None, None]:
    """The cluster that the package makes when it is installed, where somebody has dropped it since."""
    if context.host.get_fact(LacksCluster, version=version):
        yield f"pg_createcluster {version} main"
    else:
        context.host.noop("the package has made it")
