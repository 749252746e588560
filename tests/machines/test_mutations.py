"""Each proof turns red when its cure is taken out: a check that cannot fail would prove nothing.

A mutation is made on the running machines by hand, as a mistake or another tool would make it, and taken back.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest

from .conftest import Grown, Stack
from .visit import Site

pytestmark = pytest.mark.mutation
WEB, APP, DATA = "fleet-web", "fleet-app2", "fleet-data"
ENV = "/etc/roadbed/storefront/env"
BUNDLE = "/srv/storefront/current/app/node_modules/.roadbed/shared-cache.cjs"
NGINX = "/etc/nginx/nginx.conf"
ACL = "/etc/redis/redis-durable.acl"
INSTANCES = "systemctl list-units --plain --no-legend --state=active 'storefront@*' | awk '{print $1}'"
READY = (
    "for p in $(ss -Hltn | awk '{print $4}' | grep -E ':50[0-9][0-9]$'); do for i in $(seq 100); do "
    "curl -fsS -m 2 -o /dev/null http://$p/.roadbed/health && break; sleep 0.2; done; done"
)
RESTART = f"systemctl restart $({INSTANCES}) && {READY}"
RELOAD = "nginx -t -q && systemctl reload nginx && sleep 1"


@contextmanager
def changed(stack: Stack, host: str, file: str, script: str, apply: str) -> Iterator[None]:
    """A file of a machine as sed's ``script`` changes it, and ``apply`` after that; afterwards as it was."""
    stack.ssh(
        host, f"cp -pL {file} /root/mutated && cp -p /root/mutated /root/kept && sed -i -E {script} /root/mutated"
    )
    assert stack.ssh(host, "cmp -s /root/mutated /root/kept || echo changed").strip(), f"{script} changed nothing"
    try:
        stack.ssh(host, f"cat /root/mutated > {file} && {apply}")
        yield
    finally:
        stack.ssh(host, f"cat /root/kept > {file} && rm /root/kept /root/mutated && {apply}")


def red(stack: Stack, probe: str, *words: str) -> str:
    """The claims of a probe that do not hold, and why; there has to be one."""
    done = stack.provision("verify", "--only", probe, "--json", *words, code=5)
    failed = [item for item in json.loads(done.stdout)["checks"] if not item["passed"]]
    assert failed
    return "\n".join(f"{item['claim']}: {item['problem']}" for item in failed)


def environment(stack: Stack, script: str) -> AbstractContextManager[None]:
    """Another environment for the instances of one of the two app hosts."""
    return changed(stack, APP, ENV, script, RESTART)


def test_caches_of_their_own(grown: Grown) -> None:
    """Row 1: without the shared cache every host has pages of its own."""
    with environment(grown.stack, "'/^ROADBED_CACHE_URL=/d'"):
        said = red(grown.stack, "revalidation")
    assert "A page that no build has made is rendered by one instance" in said
    assert "is made anew once in a window" in said


def test_handler_without_tags(grown: Grown) -> None:
    """Row 2: an instance that does not hear what others have revalidated goes on serving the old."""
    with changed(grown.stack, APP, BUNDLE, "'s/this\\.state\\.add\\(/((...ignored) => 0)(/'", RESTART):
        said = red(grown.stack, "revalidation")
    assert "A path that is revalidated on one instance" in said
    for tag in ("prices", "reviews"):
        assert f"[{tag}," in said


def test_redis_without_a_bound(grown: Grown) -> None:
    """Row 3: where every answer of Redis is waited for, a Redis that hangs is a site that hangs."""
    with environment(grown.stack, "'$aROADBED_CACHE_TIMEOUT_MS=\"6000\"'"):
        assert "slowest answer" in red(grown.stack, "outage", "--disruptive")


def test_values_as_text(grown: Grown) -> None:
    """Row 4: binary values that go through a text come back as other bytes."""
    with changed(grown.stack, APP, BUNDLE, "'s/return parts\\[what\\];/return parts[what].toString();/'", RESTART):
        assert "A binary answer" in red(grown.stack, "revalidation")


def test_images_of_every_instance(grown: Grown) -> None:
    """Row 5: without the image cache and its one instance for each variant, Sharp runs again and again."""
    flag = "/var/lib/roadbed/storefront/route/edge.images"
    grown.stack.ssh(WEB, f"rm {flag}")
    try:
        assert "Sharp" in red(grown.stack, "image_work")
    finally:
        grown.stack.ssh(WEB, f"touch {flag}")


def test_another_action_key(grown: Grown) -> None:
    """Row 6: an instance with another key cannot read what pages of the others have encrypted."""
    key = 'NEXT_SERVER_ACTIONS_ENCRYPTION_KEY="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="'
    with environment(grown.stack, f"'$a{key}'"):
        assert "An action with encrypted closure variables" in red(grown.stack, "actions")


def test_files_of_a_release_missing(grown: Grown) -> None:
    """Row 7: a web host that lacks files of the release is noticed."""
    folder, kept = "/srv/storefront/static", "/root/static"
    grown.stack.ssh(WEB, f"cp -a {folder} {kept} && rm -r {folder}/chunks && mkdir {folder}/chunks")
    try:
        assert "files missing on fleet-web" in red(grown.stack, "releases")
    finally:
        grown.stack.ssh(WEB, f"rm -r {folder} && mv {kept} {folder}")


def test_buffering(grown: Grown) -> None:
    """Row 8: with proxy_buffering gzip holds a stream back to its end."""
    with changed(grown.stack, WEB, NGINX, "'s/proxy_buffering off;/proxy_buffering on;/'", RELOAD):
        assert "nginx passes every piece on at once" in red(grown.stack, "streaming")


def test_past_the_pool(grown: Grown) -> None:
    """Row 9: instances that go to PostgreSQL directly, with pools of their own, open more than it can bear."""
    direct = '\'s|:6432/storefront"|:5432/storefront?sslmode=no-verify"|; s/(POOL_MAX=)"5"/\\1"100"/\''
    with environment(grown.stack, direct):
        assert "over no more connections than the pools have" in red(grown.stack, "pool")


def test_one_redis_for_all(grown: Grown) -> None:
    """Row 10: a durable instance that may evict is found out."""
    ask = 'REDISCLI_AUTH="$(cat /etc/roadbed/redis.auth)" redis-cli --user roadbed -p 6380 config set maxmemory-policy'
    grown.stack.ssh(DATA, f"{ask} allkeys-lfu")
    try:
        assert "noeviction" in red(grown.stack, "redis")
    finally:
        grown.stack.ssh(DATA, f"{ask} noeviction")


def hanging(stack: Stack, host: str) -> int:
    """How many of 24 requests, three at a time, get no answer within 2 s while one instance of ``host`` is frozen."""
    unit = stack.ssh(host, INSTANCES).split()[0]
    stack.ssh(host, f"systemctl kill -s STOP {unit}")
    try:
        time.sleep(10)  # by then it is passed over
        with Site(stack.address(WEB)) as site, ThreadPoolExecutor(3) as pool:
            return sum(pool.map(lambda _: _is_late(site), range(24)))
    finally:
        stack.ssh(host, f"systemctl kill -s CONT {unit}")
        time.sleep(4)


def _is_late(site: Site) -> bool:
    try:
        return site.get("/api/info", timeout=2).status_code != 200
    except httpx.TimeoutException:
        return True


def test_nobody_looks_after_the_instances(grown: Grown) -> None:
    """Row 12: an instance that hangs is passed over, and without the service that sees to it requests hang too."""
    assert hanging(grown.stack, APP) == 0
    grown.stack.ssh(WEB, "systemctl stop roadbed-health")
    try:
        assert hanging(grown.stack, APP) > 0
    finally:
        grown.stack.ssh(WEB, "systemctl start roadbed-health")


def test_all_is_as_it_was(grown: Grown) -> None:
    done = grown.stack.provision("verify", "--json")
    assert all(item["passed"] for item in json.loads(done.stdout)["checks"])
    changes = [item for item in grown.stack.converge(phase="phase3")["operations"] if item["status"] == "changed"]
    assert changes == []
