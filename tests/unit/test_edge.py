"""The edge without a host: settings, what nginx may keep and under which key, CDN, purge hook, image service."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys import cdn, edge, nginx
from roadbed.deploys.app import AppSettings
from roadbed.deploys.environment import environment
from roadbed.deploys.render import render

MakeContext = Callable[..., Any]


def configuration(ctx: Any, resolvers: tuple[str, ...] = ()) -> str:
    """The rendered nginx.conf."""
    return render("nginx", nginx.CONFIG, ctx, **nginx.values(ctx, True, resolvers))


def chosen(text: str, variable: str, value: str) -> str:
    """What a map of nginx.conf makes of a value: the first regular expression that fits, else the default."""
    found = re.search(rf"map [^\n]* \${variable} {{(.*?)\n    }}", text, re.DOTALL)
    assert found, variable
    entries = re.findall(r"^\s*(\"[^\"]*\"|\S+) (\"[^\"]*\"|\S+);$", found[1], re.MULTILINE)
    default = ""
    for key, result in ((key.strip('"'), result.strip('"')) for key, result in entries):
        if key == "default":
            default = result
        elif key.startswith("~"):
            flags = re.IGNORECASE if key.startswith("~*") else 0
            if match := re.search(key.lstrip("~*").replace("(?<roadbed", "(?P<roadbed"), value, flags):
                for name, part in match.groupdict().items():
                    result = result.replace(f"${{{name}}}", part).replace(f"${name}", part)
                return result
        elif key == value:
            return result
    return default


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"edge": {"storage": "1 GB"}}, "pattern"),
        ({"edge": {"page": False}}, "Extra inputs"),
        ({"app": {"images": {"service": "images.example.com"}}}, "pattern"),
        ({"app": {"images": {"service": "https://i.example.com/$host"}}}, "pattern"),
        ({"app": {"images": {"service": "https://user:x@i.example.com"}}}, "pattern"),
        ({"app": {"images": {"service": "https://i.example.com:70000"}}}, "port outside"),
        ({"app": {"cdn": {"asset_prefix": "https://cdn.example.com/"}}}, "ends with a slash"),
        ({"app": {"cdn": {"asset_prefix": "cdn.example.com"}}}, "pattern"),
        ({"app": {"cdn": {"page_seconds": 0}}}, "greater than or equal"),
        ({"app": {"cdn": {"purge": {"url": "https://a:b@x.example.com"}}}}, "no user"),
        ({"app": {"cdn": {"purge": {"url": "https://x.example.com", "command": ["/bin/true"]}}}}, "Remove the other"),
        ({"app": {"cdn": {"purge": {"command": ["purge"]}}}}, "absolute path"),
    ],
)
def test_settings(make_context: MakeContext, block: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make_context(**block)


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_one_configuration_for_all_phases(make_context: MakeContext, phase: str) -> None:
    """A phase change must not reload nginx: flag files switch the caches, and a template that asked would be wrong."""
    hosts = {"all-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache", "database", "pooler"]}}
    ctx = make_context(phase=phase, hosts=hosts, name="all-1", app={"replicas": 1})
    assert configuration(ctx) == configuration(replace(ctx, phase="phase1"))


def test_switched_by_settings_and_phase(make_context: MakeContext) -> None:
    assert not edge.on(make_context(), "pages")
    assert edge.on(make_context(phase="phase2"), "pages")
    off = make_context(phase="phase3", edge={"pages": False})
    assert [edge.on(off, what) for what in edge.FLAGS] == [False, True]


def test_the_flags_are_where_nginx_looks(make_context: MakeContext) -> None:
    text = configuration(make_context())
    for flag in edge.FLAGS.values():
        assert f"if (-f /var/lib/roadbed/shop/route/{flag})" in text


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        ("1:GET:", "edge"),
        ("0:GET:", "app"),
        ("1:HEAD:", "app"),
        ("1:POST:", "app"),
        ("1:GET:a=b", "app"),
        ("1:GET:bytes=0-1", "app"),
    ],
)
def test_who_is_answered_by_the_edge(make_context: MakeContext, request_: str, place: str) -> None:
    """The switch, the method, and then everything that makes a request somebody's own."""
    assert chosen(configuration(make_context()), "roadbed_place", request_) == place


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        (":s-maxage=60, stale-while-revalidate=31535940", True),
        (":public, max-age=0, s-maxage=1", True),
        (":S-MAXAGE=060", True),
        (":s-maxage=0", False),
        (":public, max-age=60", False),
        (":private, s-maxage=60", False),
        (":s-maxage=60, no-store", False),
        (":xs-maxage=60", False),
        (":", False),
        ("/de:s-maxage=60", False),
    ],
)
def test_what_may_be_kept(make_context: MakeContext, headers: str, kept: bool) -> None:
    """It declares s-maxage, and middleware has not rewritten it to something that the key does not name."""
    assert (chosen(configuration(make_context()), "roadbed_unshared", headers) == "") == kept


@pytest.mark.parametrize(
    ("milliseconds", "moment"),
    [("1795647600.000", "1795647600"), ("1795647604.999", "1795647600"), ("1795647605.000", "1795647605")],
)
def test_a_page_is_gone_after_its_time(make_context: MakeContext, milliseconds: str, moment: str) -> None:
    assert chosen(configuration(make_context()), "roadbed_moment", milliseconds) == moment
    assert edge.PAGE_SECONDS == 5


@pytest.mark.parametrize(("asked", "set_"), [("1:POST", True), ("1:PATCH", True), ("1:GET", False), ("0:POST", False)])
def test_who_writes_reads_past_the_edge(make_context: MakeContext, asked: str, set_: bool) -> None:
    cookie = chosen(configuration(make_context()), "roadbed_fresh", asked)
    assert bool(cookie) == set_
    assert not set_ or f"Max-Age={edge.PAGE_SECONDS};" in cookie


def test_pages_and_their_data_have_keys_of_their_own(make_context: MakeContext) -> None:
    """Every request header by which Next.js 14.2 to 16 answers differently (base-server.js, setVaryHeader)."""
    key = re.search(r'proxy_cache_key "(\$roadbed_moment [^"]*)"', configuration(make_context()))
    assert key
    for header in ("rsc", "next_router_state_tree", "next_router_prefetch", "next_router_segment_prefetch", "next_url"):
        assert f"$http_{header}|" in key[1]
    assert "$roadbed_upstream $host" in key[1]
    assert key[1].endswith("$request_uri")


@pytest.mark.parametrize(
    ("accept", "formats"),
    [
        ("image/avif,image/webp,image/apng,*/*;q=0.8", "avif webp"),
        ("image/webp,image/avif", "avif webp"),
        ("image/webp,*/*", "webp"),
        ("image/avif", "avif"),
        ("*/*", "other"),
        ("", "other"),
        ("image/avif;q=0,image/webp", "$http_accept"),
    ],
)
def test_formats(make_context: MakeContext, accept: str, formats: str) -> None:
    assert chosen(configuration(make_context()), "roadbed_format", accept) == formats


HASHED = "url=%2F_next%2Fstatic%2Fmedia%2Flamp.0abc.jpg&w=640&q=75"
OF_A_RELEASE = "$arg_url $arg_w $arg_q $roadbed_upstream $realpath_root"


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (f"{HASHED}&dpl=20261125T1-abc", HASHED),
        (HASHED, HASHED),
        (f"{HASHED}&x=1", OF_A_RELEASE),
        ("url=%2F_next%2Fstatic%2Fimmutable%2Fmedia%2Fl.1.jpg&w=64&q=75", None),
        ("url=%2Fshop%2F_next%2Fstatic%2Fmedia%2Fl.1.jpg&w=64&q=75", None),
        ("url=https%3A%2F%2Fphotos.example.com%2Fa.jpg&w=64&q=75", "$args"),
        ("url=%2Fimages%2Ftrack.jpg&w=640&q=75&dpl=20261125T1-abc", OF_A_RELEASE),
        ("url=%2Fimages%2Ftrack.jpg&w=640&q=75", OF_A_RELEASE),
        ("URL=https%3A%2F%2Fphotos.example.com%2Fa.jpg&url=%2Fb.jpg&w=64&q=75", OF_A_RELEASE),
    ],
)
def test_of_which_release_an_image_is(make_context: MakeContext, args: str, key: str | None) -> None:
    """Only names that hold a hash, and images from elsewhere, outlive a release."""
    assert chosen(configuration(make_context()), "roadbed_image", args) == (args if key is None else key)


def test_images_are_asked_of_one_instance(make_context: MakeContext) -> None:
    """The same order on every web host; the groups of a kept release have a backup, which no hash knows."""
    hosts = {
        "web-1": {"address": "192.0.2.10", "roles": ["web"]},
        "web-2": {"address": "192.0.2.20", "roles": ["web"]},
        "app-1": {"address": "192.0.2.11", "roles": ["app"]},
        "app-2": {"address": "192.0.2.12", "roles": ["app"]},
    }
    texts = [configuration(make_context(phase="phase3", hosts=hosts, name=name)) for name in ("web-1", "web-2")]
    groups = [re.findall(r"upstream shop_\w+_images {.*?\n    }", text, re.DOTALL) for text in texts]
    assert groups[0] == groups[1]
    kept = [group for group in groups[0] if "_old_images " in group]
    assert (len(groups[0]), len(kept)) == (12, 9)
    assert all("max_fails=0" in group and (" consistent;" in group) != (group in kept) for group in groups[0])


def test_an_old_nginx_gets_no_directive_it_does_not_know(make_context: MakeContext) -> None:
    ctx = make_context()
    old = replace(ctx, facts={name: replace(facts, codename="jammy") for name, facts in ctx.facts.items()})
    assert "min_free=512m" in configuration(ctx)
    assert "min_free" not in configuration(old)


def test_image_service(make_context: MakeContext) -> None:
    """It is found at run time, verified, and gets neither cookies nor passwords."""
    assert "resolver" not in configuration(make_context())
    text = configuration(make_context(app={"images": {"service": "https://i.example.com:8443/x"}}), ("192.0.2.53",))
    location = text[text.index("/_next/image/?$ {") :]
    location = location[: location.index("\n        }\n")]
    for line in (
        "resolver 192.0.2.53;",
        'set $roadbed_service "i.example.com:8443";',
        'proxy_set_header Host "i.example.com:8443";',
        "proxy_pass_request_headers off;",
        "proxy_ssl_verify on;",
        "proxy_pass https://$roadbed_service/x$is_args$args;",
    ):
        assert line in location, line
    assert "$roadbed_upstream$roadbed_images" not in location


@pytest.mark.parametrize(
    ("url", "address", "netloc"),
    [
        ("http://i.example.com", False, "i.example.com"),
        ("http://192.0.2.7:81/a", True, "192.0.2.7:81"),
        ("https://[2001:db8::7]:8443", True, "[2001:db8::7]:8443"),
    ],
)
def test_image_service_in_parts(url: str, address: bool, netloc: str) -> None:
    parts = cdn.ImagesSettings(service=url).parts()
    assert parts
    assert (parts.is_address, parts.netloc) == (address, netloc)
    assert parts.path.startswith("/")


def test_name_servers_of_a_host() -> None:
    fact = edge.Resolvers()  # type: ignore[no-untyped-call]
    assert fact.process(["192.0.2.53 ", "2001:db8::53", "fe80::1%eth0", ""]) == ["192.0.2.53", "[2001:db8::53]"]


@pytest.mark.parametrize("number", [0, 1, 9, 10, 59, 60, 99, 100, 3600, 31536000])
def test_more_than(number: int) -> None:
    """A regular expression compares numbers, since nginx cannot."""
    pattern = edge.more_than(number)
    near = {*range(max(0, number - 120), number + 121), number * 10, number * 11 + 1, 31535999, 31536001}
    assert {value for value in near if re.fullmatch(pattern, str(value))} == {value for value in near if value > number}


def test_what_a_cdn_is_told(make_context: MakeContext) -> None:
    """Nothing without the setting; with it no more than Next.js allows."""
    assert "$roadbed_cdn" not in configuration(make_context())
    text = configuration(make_context(app={"cdn": {"page_seconds": 60}}))
    assert "add_header CDN-Cache-Control $roadbed_cdn;" in text
    assert chosen(text, "roadbed_cdn", ":s-maxage=31536000") == "public, max-age=60"
    assert chosen(text, "roadbed_cdn", "private:s-maxage=31536000") == ""
    for own in ("s-maxage=5, stale-while-revalidate=1", "s-maxage=60", "private, s-maxage=100", "max-age=100"):
        assert chosen(text, "roadbed_cdn", f":{own}") == ""


def test_assets_of_another_origin(make_context: MakeContext) -> None:
    assert "Access-Control-Allow-Origin" not in configuration(make_context())
    text = configuration(make_context(app={"cdn": {"asset_prefix": "https://cdn.example.com"}}))
    static = text[text.index("/_next/static/(?<roadbed_static>") :].partition("\n        }\n")[0]
    assert 'add_header Access-Control-Allow-Origin "*" always;' in static
    assert text.count("Access-Control-Allow-Origin") == 1


def purge(make_context: MakeContext, settings: dict[str, Any]) -> dict[str, str]:
    """The environment of an instance with this purge hook, in phase2."""
    hosts = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app"]}}
    ctx = make_context(phase="phase2", hosts=hosts, app={"cdn": {"purge": settings}}, edge={"images": False})
    return {name: value for name, value in environment(ctx).items() if "PURGE" in name}


def test_purge_hook(make_context: MakeContext) -> None:
    """The instances wait as long as the edge may have an old page, and get the token in their environment."""
    assert purge(make_context, {}) == {}
    settings = {"url": "https://x.example.com/purge", "secret": "DATABASE_URL", "interval": 30}
    assert purge(make_context, settings) == {
        "ROADBED_PURGE_URL": "https://x.example.com/purge",
        "ROADBED_PURGE_TOKEN": "postgres://secret",
        "ROADBED_PURGE_WAIT_SECONDS": str(edge.PAGE_SECONDS),
        "ROADBED_PURGE_INTERVAL_SECONDS": "30",
    }
    told = purge(make_context, {"command": ["/usr/bin/env", "a b"]})
    assert told["ROADBED_PURGE_COMMAND"] == '["/usr/bin/env", "a b"]'
    with pytest.raises(KeyError):
        purge(make_context, {"url": "https://x.example.com", "secret": "NONE"})


def test_a_stopping_instance_has_time_for_its_last_call(make_context: MakeContext) -> None:
    assert cdn.stop_margin(make_context()) == 0
    assert cdn.stop_margin(make_context(app={"cdn": {"purge": {"command": ["/bin/true"]}}})) == cdn.FLUSH_SECONDS
    assert cdn.FLUSH_SECONDS > edge.PAGE_SECONDS + 5


def test_the_asset_prefix_is_part_of_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another prefix is another release."""
    from types import SimpleNamespace

    from roadbed.engine.secrets import new_action_key
    from roadbed.releases import job
    from roadbed.releases.project import Project

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "project").mkdir()
    (tmp_path / "project/package.json").write_text("{}")
    project = Project(tmp_path / "project", Path(), "npm", "package-lock.json", "16.4.6", {})
    toolchain: Any = SimpleNamespace(build=SimpleNamespace(version="24.0.0"))
    hashes, key = set(), new_action_key().encode()
    for prefix in (None, "https://cdn.example.com"):
        settings: dict[str, Any] = {"name": "shop", "source": ".", "domain": "shop.example.com"}
        app = AppSettings.model_validate({**settings, "cdn": {"asset_prefix": prefix}})
        made = job.make_job(app, project, toolchain, key, print)
        assert made.asset_prefix == prefix
        hashes.add(made.source_hash)
    assert len(hashes) == 2
