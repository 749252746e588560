"""Install the packages and run ``next build``, with what a self-hosted release needs."""

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from hashlib import sha256

from . import cache, old_versions, runtime_files, source, versions
from .build_env import build_environment
from .command import BuildFailed, BuildLog, run
from .job import Job
from .layout import BuildInfo, find_build, find_dist

PLAIN_BUILD = re.compile(r"next build((?: +--?[a-z-]+)*)")


def build(job: Job, release: str, hooks: AbstractContextManager[None]) -> BuildInfo:
    """Builds ``release`` in a fresh copy of the source, inside ``hooks`` once the packages are there.

    Raises BuildFailed with the end of the log.
    """
    log = BuildLog(job.work / "build.log")
    _install(job, log)
    with hooks:
        return _build(job, release, log)


def _build(job: Job, release: str, log: BuildLog) -> BuildInfo:
    handlers = runtime_files.cache_handlers(job.toolchain, environment(job, {}), log)
    runtime_files.copy_all(job.work / "runtime", handlers)
    _next_build(job, release, log)
    info = find_build(job.folder)
    if job.version < versions.ADAPTERS:
        note = old_versions.add_cache_handler(info.dist / "standalone" / info.server, info.dist_name, handlers)
        if note:
            job.say(note)
    _check_key(info, job.key)
    _check_asset_prefix(info, job)
    return info


def prepare(job: Job) -> None:
    """Makes the copy of the source, with its packages, unless it is there: what commands of the project run in.

    Raises BuildFailed when the install fails or the project is no longer what the release was built from.
    """
    if job.copied.exists() and job.copied.read_text() == job.source_hash:
        return
    _install(job, BuildLog(job.work / "build.log"), "the new release was not started")


def _install(job: Job, log: BuildLog, outcome: str = "no host was touched") -> None:
    """A fresh copy of the source, and its packages as the lock file names them."""
    job.copied.unlink(missing_ok=True)
    source.copy(job.project.root, job.files, job.copy)
    if source.hash_of(job.copy, job.files, dict(job.depends)) != job.source_hash:
        raise BuildFailed("app/source: the project has changed during this run. Run the command again")
    _put_managers_on_path(job)
    _install_packages(job, log, outcome)
    job.copied.write_text(job.source_hash)


def _install_packages(job: Job, log: BuildLog, outcome: str) -> None:
    cached = str(cache.cache_root() / "packages" / job.project.manager)
    if job.project.manager == "npm":
        title, options = "npm ci", ["--no-audit", "--no-fund", "--prefer-offline", "--cache", cached]
    else:
        title, options = "pnpm install --frozen-lockfile", ["--prefer-offline", "--store-dir", cached]
    job.say(f"Installing packages: {title}")
    command = [*job.manager, *title.split()[1:], *options]
    run(command, folder=job.copy, env=environment(job, {}), log=log, title=title, outcome=outcome)


def _next_build(job: Job, release: str, log: BuildLog) -> None:
    ours = {
        "NEXT_SERVER_ACTIONS_ENCRYPTION_KEY": job.key.decode(),
        "ROADBED_RELEASE": release,
        "NODE_ENV": "production",
    }
    if job.asset_prefix:
        ours["ROADBED_ASSET_PREFIX"] = job.asset_prefix
    adapters = job.version >= versions.ADAPTERS
    if adapters:
        ours["NEXT_ADAPTER_PATH"] = str(job.work / "runtime/adapter.cjs")
    else:  # undocumented, present in every version from 14.2 on
        ours |= {"NEXT_PRIVATE_STANDALONE": "1", "NEXT_DEPLOYMENT_ID": release}
    command, title = _build_command(job)
    job.say(f"Building with Next.js {job.project.next_version}: {title}")
    run(command, folder=job.folder, env=environment(job, ours), log=log, title=title)
    dist = find_dist(job.folder)
    if not adapters:
        old_versions.embed_key(dist, job.key)
    describe = [str(job.toolchain.node), str(job.work / "runtime/describe.cjs"), str(job.folder), str(dist)]
    run(describe, folder=job.folder, env=environment(job, {}), log=log, title="node describe.cjs")


def _build_command(job: Job) -> tuple[list[str], str]:
    """``next build`` itself, or the project's build script when that does more."""
    scripts = job.project.scripts
    plain = PLAIN_BUILD.fullmatch(scripts.get("build", "next build").strip())
    if plain and not {"prebuild", "postbuild"} & scripts.keys():
        places = (job.folder, *job.folder.parents[: len(job.project.folder.parts)])  # hoisted in a workspace
        found = [place / "node_modules/next/dist/bin/next" for place in places]
        program = next((file for file in found if file.exists()), found[0])
        flags = plain[1].split()
        return [str(job.toolchain.node), str(program), "build", *flags], " ".join(["next build", *flags])
    return [*job.manager, "run", "build"], f"{job.project.manager} run build"


def _put_managers_on_path(job: Job) -> None:
    """Scripts call npm, npx or pnpm by name, and the control machine need have none of them."""
    folder = job.work / "bin"
    folder.mkdir(exist_ok=True)
    programs: dict[str, list[str]] = {job.project.manager: job.manager}
    if job.project.manager == "npm":
        programs["npx"] = [word.replace("npm-cli.js", "npx-cli.js") for word in job.manager]
    for name, command in programs.items():
        words = " ".join(f"'{word}'" for word in command)
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)


def environment(job: Job, ours: Mapping[str, str]) -> dict[str, str]:
    """Environment of the project's own commands: the package manager and Node.js are on its PATH; ``ours`` wins."""
    path = [str(job.work / "bin"), str(job.toolchain.node.parent), *os.get_exec_path()]
    return build_environment(path, job.copy, job.env, ours)


def with_programs(job: Job, ours: Mapping[str, str]) -> dict[str, str]:
    """``environment``, with the programs on PATH that the project's packages brought."""
    env = environment(job, ours)
    programs = dict.fromkeys(str(folder / "node_modules/.bin") for folder in (job.folder, job.copy))
    return {**env, "PATH": os.pathsep.join([*programs, env["PATH"]])}


def _check_key(info: BuildInfo, key: bytes) -> None:
    """Next.js makes a key of its own when it does not see ours, and every later build then breaks open pages."""
    used = info.data["actionKeyFingerprint"]
    if used is not None and used != sha256(key).hexdigest():
        raise BuildFailed(
            "app/source: the build did not use the stack's action key. "
            "Remove NEXT_SERVER_ACTIONS_ENCRYPTION_KEY from the project's .env files and scripts"
        )


def _check_asset_prefix(info: BuildInfo, job: Job) -> None:
    """Before adapters nothing from outside can set it. A project's own wins, which newer builds say by themselves."""
    if job.asset_prefix and info.data["assetPrefix"] == info.data["basePath"]:
        raise BuildFailed(
            f"app/cdn/asset_prefix: Next.js {job.project.next_version} takes it from next.config alone. "
            f'Write assetPrefix: "{job.asset_prefix}" there, or upgrade to Next.js 15.4'
        )
