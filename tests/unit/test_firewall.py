"""Firewall: which ports are open for whom, and that the scripts of a guarded change are sound shell."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys import firewall, guard, sshd
from roadbed.deploys.firewall import FirewallSettings, openings
from roadbed.deploys.render import render

Make = Callable[..., Any]
SPLIT = {
    "web-1": {"address": "192.0.2.10", "private": "10.0.0.10", "roles": ["web"]},
    "app-1": {"address": "192.0.2.11", "private": "10.0.0.11", "roles": ["app"]},
    "both-1": {"address": "192.0.2.12", "private": "10.0.0.12", "roles": ["web", "app"]},
}


def _opened(ctx: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(rule.ports, rule.sources) for rule in openings(ctx)]


def test_one_host_opens_ssh_and_the_web(make_context: Make) -> None:
    assert _opened(make_context()) == [("22", ()), ("80", ()), ("443", ())]


def test_app_ports_open_for_web_hosts_without_an_app(make_context: Make) -> None:
    assert _opened(make_context(hosts=SPLIT, name="app-1")) == [("22", ()), ("5000-5059", ("10.0.0.10/32",))]
    assert _opened(make_context(hosts=SPLIT, name="web-1")) == [("22", ()), ("80", ()), ("443", ())]


def test_hosts_that_serve_themselves_open_no_app_port(make_context: Make) -> None:
    hosts = {name: {"address": f"192.0.2.{n}", "roles": ["web", "app"]} for n, name in enumerate(("a", "b"), 20)}
    assert "5000-5059" not in dict(_opened(make_context(hosts=hosts, name="a")))


def test_ssh_port_and_sources_follow_the_inventory(make_context: Make) -> None:
    ctx = make_context(ssh={"port": 2222}, firewall={"ssh_from": ["203.0.113.0/24", "2001:db8::/32"]})
    assert openings(ctx)[0].ports == "2222"
    assert openings(ctx)[0].matches == ["ip saddr { 203.0.113.0/24 } ", "ip6 saddr { 2001:db8::/32 } "]


def test_networks_within_one_another_are_merged(make_context: Make) -> None:
    ctx = make_context(firewall={"ssh_from": ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3"]})
    assert openings(ctx)[0].matches == ["ip saddr { 10.0.0.0/8 } "]


def test_more_ports_can_be_allowed(make_context: Make) -> None:
    allow = [{"port": 51820, "protocol": "udp", "from": ["198.51.100.7"], "comment": "wireguard"}]
    text = _rules(make_context(firewall={"allow": allow}))
    assert 'ip saddr { 198.51.100.7/32 } udp dport 51820 accept comment "wireguard"' in text


def _rules(ctx: Any) -> str:
    return render("firewall", firewall.RULES, ctx, rules=openings(ctx))


def test_rules_replace_one_table_alone(make_context: Make) -> None:
    lines = [line.strip() for line in _rules(make_context()).splitlines()]
    assert "delete table inet roadbed" in lines
    assert "type filter hook input priority filter; policy drop;" in lines
    assert not any("flush" in line or "log prefix" in line for line in lines)


def test_drops_are_logged_when_asked(make_context: Make) -> None:
    assert "limit rate 5/second burst 20 packets log prefix" in _rules(make_context(firewall={"log": True}))


def test_a_name_is_no_address(make_context: Make) -> None:
    hosts = {**SPLIT, "web-1": {"address": "web-1.example.com", "roles": ["web"]}}
    with pytest.raises(ValueError, match=r"hosts/web-1/private: 'web-1.example.com' is a name"):
        openings(make_context(hosts=hosts, name="app-1"))


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"ssh_from": ["203.0.113.7/24"]}, "'203.0.113.7/24' is not a network"),
        ({"ssh_from": ["office"]}, "Write one such as 203.0.113.0/24"),
        ({"allow": [{"port": 0}]}, "port"),
        ({"allow": [{"port": 25, "comment": '" ; flush ruleset'}]}, "comment"),
        ({"allow": [{"port": 25, "protocol": "sctp"}]}, "protocol"),
    ],
)
def test_bad_settings_are_refused(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        FirewallSettings.model_validate(block)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "script",
    [
        guard._keep("firewall", firewall.RULES),
        guard._arm("firewall"),
        guard._restore("firewall", firewall.RULES, firewall.APPLY),
        guard._restore("sshd", sshd.SETTINGS, sshd.RELOAD),
        guard._commit("firewall"),
        firewall.IN_FORCE,
        sshd.VALIDATE,
        sshd.PROVE,
    ],
)
def test_scripts_are_sound_shell(script: str) -> None:
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_revert_is_armed_before_and_ends_after_the_login() -> None:
    assert f"--on-active={guard.REVERT_SECONDS}" in guard._arm("sshd")
    assert "AccuracySec=1s" in guard._arm("sshd")
    assert "roadbed-revert-sshd.timer" in guard._commit("sshd")
