"""A stack of four machines along the roadmap: from phase1 to phase3 without a lost request, and not back by mistake."""

import json

from .conftest import Grown

CHANGED = {"phase2": {"firewall", "redis", "postgres", "pgbouncer", "app", "release", "phase"}}


def changes(result: dict, host: str | None = None) -> list[str]:
    """Names of the operations that changed something."""
    found = [item for item in result["operations"] if item["status"] == "changed" and host in (None, item["host"])]
    return [item["name"] for item in found]


def test_no_request_is_lost_on_the_way(grown: Grown) -> None:
    phases = grown.phases
    steps = {name: sum(step["seconds"] for step in result["steps"]) for name, result in phases.results.items()}
    counts = {name: len(changes(result)) for name, result in phases.results.items()}
    print(f"\n{phases.requests} requests while phase2 and phase3 came; seconds {steps}; changes {counts}")
    assert phases.requests > 500
    assert phases.failures == []


def test_nginx_is_not_reloaded_by_a_phase(grown: Grown) -> None:
    """A reload costs requests of keep-alive clients; so the configuration is the same in every phase."""
    for phase in ("phase2", "phase3"):
        assert "Reload nginx on new settings" not in changes(grown.phases.results[phase])


def test_second_run_has_nothing_to_do(grown: Grown) -> None:
    pids = "systemctl show -p MainPID --value nginx redis-server@cache redis-server@durable pgbouncer 2>/dev/null"
    before = {name: grown.stack.ssh(name, pids) for name in grown.stack.data["hosts"]}
    assert changes(grown.stack.converge(phase="phase3")) == []
    assert {name: grown.stack.ssh(name, pids) for name in grown.stack.data["hosts"]} == before


def test_everything_is_proven(grown: Grown) -> None:
    done = grown.stack.provision("verify", "--json", "--disruptive", "--verbose", code=None)
    checks = json.loads(done.stdout)["checks"]
    assert [f"{item['host']}: {item['claim']}: {item['problem']}" for item in checks if not item["passed"]] == []
    proven = {item["component"] for item in checks}
    assert {"shared_cache", "revalidation", "actions", "releases", "outage", "streaming", "pgbouncer"} <= proven
    for item in checks:
        if item["component"] in ("shared_cache", "revalidation", "outage", "actions"):
            print(f"{item['claim']}: {item['measured']}")


def test_no_way_back_by_mistake(grown: Grown) -> None:
    refused = grown.stack.provision("phase1", code=6)
    assert "at phase3, and phase1 would take away what it brought" in refused.stderr
    assert "--allow-downgrade" in refused.stderr
    shown = grown.stack.provision("phase2", "--allow-downgrade", "--dry-run")
    assert "Record phase2" in shown.stderr
