"""Install the packages and run ``next build``, with what a self-hosted release needs."""

import os
import re
from collections.abc import Mapping
from hashlib import sha256

from . import cache, old_versions, runtime_files, source, versions
from .build_env import build_environment
from .command import BuildFailed, BuildLog, run
from .job import Job
from .layout import BuildInfo, find_build, find_dist

PLAIN_BUILD = re.compile(r"next build((?: +--?[a-z-]+)*)")


def build(job: Job, release: str) -> BuildInfo:
    """Builds ``release`` in a fresh copy of the source. Raises BuildFailed with the end of the log."""
    log = BuildLog(job.work / "build.log")
    source.copy(job.project.root, job.files, job.copy)
    _put_managers_on_path(job)
    handlers = runtime_files.cache_handlers(job.toolchain, _environment(job, {}), log)
    runtime_files.copy_all(job.work / "runtime", handlers)
    _install(job, log)
    _next_build(job, release, log)
    info = find_build(job.folder)
    if job.version < versions.ADAPTERS:
        note = old_versions.add_cache_handler(info.dist / "standalone" / info.server, info.dist_name, handlers)
        if note:
            job.say(note)
    _check_key(info, job.key)
    return info


def _install(job: Job, log: BuildLog) -> None:
    cached = str(cache.cache_root() / "packages" / job.project.manager)
    if job.project.manager == "npm":
        title, options = "npm ci", ["--no-audit", "--no-fund", "--prefer-offline", "--cache", cached]
    else:
        title, options = "pnpm install --frozen-lockfile", ["--prefer-offline", "--store-dir", cached]
    job.say(f"Installing packages: {title}")
    command = [*job.manager, *title.split()[1:], *options]
    run(command, folder=job.copy, env=_environment(job, {}), log=log, title=title)


def _next_build(job: Job, release: str, log: BuildLog) -> None:
    ours = {
        "NEXT_SERVER_ACTIONS_ENCRYPTION_KEY": job.key.decode(),
        "ROADBED_RELEASE": release,
        "NODE_ENV": "production",
    }
    adapters = job.version >= versions.ADAPTERS
    if adapters:
        ours["NEXT_ADAPTER_PATH"] = str(job.work / "runtime/adapter.cjs")
    else:  # undocumented, present in every version from 14.2 on
        ours |= {"NEXT_PRIVATE_STANDALONE": "1", "NEXT_DEPLOYMENT_ID": release}
    command, title = _build_command(job)
    job.say(f"Building with Next.js {job.project.next_version}: {title}")
    run(command, folder=job.folder, env=_environment(job, ours), log=log, title=title)
    dist = find_dist(job.folder)
    if not adapters:
        old_versions.embed_key(dist, job.key)
    describe = [str(job.toolchain.node), str(job.work / "runtime/describe.cjs"), str(job.folder), str(dist)]
    run(describe, folder=job.folder, env=_environment(job, {}), log=log, title="node describe.cjs")


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
    """Build scripts call npm or pnpm by name, and the control machine need have neither."""
    folder = job.work / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / job.project.manager
    words = " ".join(f"'{word}'" for word in job.manager)
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)


def _environment(job: Job, ours: Mapping[str, str]) -> dict[str, str]:
    path = [str(job.work / "bin"), str(job.toolchain.node.parent), *os.get_exec_path()]
    return build_environment(path, job.copy, job.env, ours)


def _check_key(info: BuildInfo, key: bytes) -> None:
    """Next.js makes a key of its own when it does not see ours, and every later build then breaks open pages."""
    used = info.data["actionKeyFingerprint"]
    if used is not None and used != sha256(key).hexdigest():
        raise BuildFailed(
            "app/source: the build did not use the stack's action key. "
            "Remove NEXT_SERVER_ACTIONS_ENCRYPTION_KEY from the project's .env files and scripts"
        )
