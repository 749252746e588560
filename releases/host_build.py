"""A build on a host: what it needs is sent, each step runs in a bounded unit, and what came of it is fetched.

What follows is the same as after a build on this machine: the tree of the release is made here, and every host gets
it from here.
"""

import shlex
import tempfile
from hashlib import sha256
from pathlib import Path, PurePosixPath

from roadbed.deploys.build import Budget
from roadbed.engine.errors import OperationFailed

from . import cache, host_files, next_build, old_versions, runtime_files, source, versions
from .build_env import host_environment, npmrc
from .build_host import BuildHost
from .command import BuildFailed, BuildLog
from .host_step import Steps, as_user
from .job import Job
from .layout import BuildInfo, find_build
from .toolchain import fetch_node, fetch_package, manager_package
from .unit import BASE, HEAP_SHARE, UNIT

FIRST = (
    'node=$1; shift; flags=$1; shift; for program; do [ ! -f "$program" ] || exec "$node" "$program" build $flags; done'
)
NEXT = f"{FIRST}; echo 'next is not installed' >&2; exit 127"
"""Runs the first of the programs that is there: where a workspace has put Next.js is known after the install."""
DESCRIBE = """
for file in .*/required-server-files.json */required-server-files.json */*/required-server-files.json; do
    [ ! -f "$file" ] || exec "$1" "$2" "$PWD" "$PWD/${file%/*}"
done
echo 'the build left no server' >&2; exit 1
"""
"""Where the build is, is a setting of the project (distDir); ``layout.find_dist`` looks in the same places."""


def build(job: Job, release: str, host: BuildHost) -> BuildInfo:
    """Builds ``release`` on ``host``. Raises BuildFailed with the end of the log, Refused where memory is short."""
    log = BuildLog(job.work / "build.log")
    handlers = runtime_files.cache_handlers(job.toolchain, next_build.environment(job, {}), log)
    with host.held(job.app) as limits:
        if host.platform != job.platform:
            raise OperationFailed(f"{host.name}: is {host.platform} now, not {job.platform}. Run the command again")
        made = _Build(job, release, host, limits, log).perform(handlers)
    if job.version < versions.ADAPTERS:
        old_versions.embed_key(made.dist, job.key)
        made.data["actionKeyFingerprint"] = sha256(job.key).hexdigest()
    return next_build.finish(job, made, handlers)


class _Build:
    """One build. Paths are those of the host."""

    def __init__(self, job: Job, release: str, host: BuildHost, limits: Budget, log: BuildLog) -> None:
        self.job, self.release, self.host, self.limits = job, release, host, limits
        self.work = f"{BASE}/{job.app}"
        self.copy = PurePosixPath(self.work, "source")
        self.folder = str(self.copy / job.project.folder.as_posix())
        self.steps = Steps(host, limits, (self.work, f"{BASE}/packages"), log)

    def perform(self, handlers: Path) -> BuildInfo:
        """The steps, in order."""
        job = self.job
        self._send_programs(handlers)
        if source.hash_of(job.project.root, job.files, dict(job.depends)) != job.source_hash:
            raise BuildFailed("app/source: the project has changed during this run. Run the command again")
        sent = host_files.send_source(self.host, job.project.root, job.files, self.work)
        job.say(f"{self.host.name}: sent {sent / 2**20:.1f} MB of the source")
        words, title = next_build.install_words(job.project.manager, f"{BASE}/packages/{job.project.manager}")
        job.say(f"{self.host.name}: installing packages: {title}")
        login = npmrc()
        ours = {"NPM_CONFIG_USERCONFIG": f"/run/credentials/{UNIT}/npmrc"} if login else {}
        self.steps.run(
            [*self.manager, *words], folder=str(self.copy), env=self._environment(ours), title=title, npmrc=login
        )
        return self._fetch(self._next_build())

    def _send_programs(self, handlers: Path) -> None:
        """Node.js, the package manager and the runtime, as this machine has verified or made them."""
        job, node = self.job, self.host.node
        package = manager_package(job.project.manager, node.version)
        program = fetch_node(node, job.say)
        name = f"node-{program.parent.parent.name}-{self.host.facts.arch}"
        self.node = host_files.send_tool(self.host, name, program.parent.parent) + "/bin/node"
        name = f"{package.name}-{package.version}"
        place = host_files.send_tool(self.host, name, fetch_package(package, job.say))
        self.manager = [self.node, f"{place}/{package.program}"]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "runtime"
            runtime_files.copy_all(folder, handlers)
            (folder / "bin").mkdir()
            for name, text in next_build.manager_scripts(job.project.manager, self.manager).items():
                (folder / "bin" / name).write_text(text)
                (folder / "bin" / name).chmod(0o755)
            version = sha256(f"{runtime_files.runtime_hash()} {self.manager}".encode()).hexdigest()[:16]
            self.runtime = host_files.send_tool(self.host, f"runtime-{version}", folder)

    def _environment(self, ours: dict[str, str]) -> dict[str, str]:
        path = [f"{self.runtime}/bin", str(PurePosixPath(self.node).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        return host_environment(path, f"{self.work}/home", self.job.project.root, self.job.env, ours)

    def _next_build(self) -> str:
        """Runs the build; returns its folder, relative to the project's."""
        job = self.job
        flags = next_build.plain_flags(job.project.scripts)
        if flags is None:
            words, title = [*self.manager, "run", "build"], f"{job.project.manager} run build"
        else:
            programs = next_build.programs_of_next(PurePosixPath(self.folder), PurePosixPath(job.project.folder))
            words = ["sh", "-c", NEXT, "next", self.node, " ".join(flags), *map(str, programs)]
            title = " ".join(["next build", *flags])
        job.say(f"{self.host.name}: building with Next.js {job.project.next_version}: {title}")
        heap = {"NODE_OPTIONS": f"--max-old-space-size={int(self.limits.memory_mb * HEAP_SHARE)}"}
        env = self._environment({**heap, **next_build.build_variables(job, self.release, self.runtime)})
        self.steps.run(words, folder=self.folder, env=env, title=title)
        words = ["sh", "-c", DESCRIBE, "describe", self.node, f"{self.runtime}/describe.cjs"]
        file = self.steps.run(words, folder=self.folder, env=self._environment({}), title="node describe.cjs")
        return str(PurePosixPath(file).parent.relative_to(self.folder))

    def _fetch(self, dist: str) -> BuildInfo:
        job, target = self.job, self.job.work / "fetched"
        job.say(f"{self.host.name}: fetching the build")
        cache.remove_tree(target)
        target.mkdir()
        received = host_files.fetch(self.host, job.app, self.folder, f"{self.folder}/{dist}", target)
        job.say(f"{self.host.name}: received {received / 2**20:.1f} MB")
        self.host.session.run(as_user(f"rm -rf {shlex.quote(f'{self.folder}/{dist}')}"))
        return find_build(target)
