"""A share of the visitors without a host: what nginx draws, the flags, counts from logs, the verdict, the options."""

import itertools
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadbed.cli.canary import parse_canary, parse_steps, parse_watch
from roadbed.deploys import canary as words
from roadbed.deploys import nginx
from roadbed.deploys.render import render
from roadbed.engine.errors import InventoryError
from roadbed.releases import evidence, share, traffic, verdict
from roadbed.releases.canary import Canary
from roadbed.releases.host_state import HostState
from roadbed.releases.scripts import script
from roadbed.releases.traffic import Traffic

MakeContext = Callable[..., Any]
COOKIE = words.COOKIE


def configuration(ctx: Any) -> str:
    """The rendered nginx.conf."""
    return render("nginx", nginx.CONFIG, ctx, **nginx.values(ctx, True))


def chosen(text: str, variable: str, value: str) -> str:
    """What a map of nginx.conf makes of a value: the first regular expression that fits, else the default."""
    found = re.search(rf"map [^\n]* \${variable} {{(.*?)\n    }}", text, re.DOTALL)
    assert found, variable
    default = ""
    for key, result in re.findall(r"^\s*(\"[^\"]*\"|\S+) (\"[^\"]*\"|\S+);$", found[1], re.MULTILINE):
        key, result = key.strip('"'), result.strip('"')
        if key == "default":
            default = result
        elif match := re.search(key[1:].replace("(?<", "(?P<"), value) if key.startswith("~") else None:
            return next((f"{part}" for part in match.groups()), result)
        elif key == value:
            return result
    return default


@pytest.mark.parametrize(
    ("cookies", "bucket"),
    [
        ("", "$roadbed_drawn"),
        (f"{COOKIE}=0", "0"),
        (f"a=b; {COOKIE}=99; c=d", "99"),
        (f"{COOKIE}=100", "$roadbed_drawn"),
        (f"{COOKIE}=07", "$roadbed_drawn"),
        (f"{COOKIE}=", "$roadbed_drawn"),
        (f"x{COOKIE}=5", "$roadbed_drawn"),
        (f"{COOKIE}=../../etc", "$roadbed_drawn"),
    ],
)
def test_the_bucket_of_a_visitor(make_context: MakeContext, cookies: str, bucket: str) -> None:
    """Only the number of a bucket reaches a file name; everything else is as if there were no cookie."""
    text = configuration(make_context())
    assert chosen(text, "roadbed_bucket", f"shop_a {cookies}") == bucket
    assert chosen(text, "roadbed_bucket", f"shop_a_old {cookies}") == "kept"
    given = chosen(text, "roadbed_new_cookie", f" {cookies} /products/1")
    assert given == (
        "" if bucket.isdigit() else f"{COOKIE}=$roadbed_drawn; Max-Age=86400; Path=/; Secure; HttpOnly; SameSite=Lax"
    )


@pytest.mark.parametrize("path", ["/_next/image", "/de/_next/image/", "/_next/static/chunks/a.js"])
def test_what_browsers_keep_has_no_cookie(make_context: MakeContext, path: str) -> None:
    assert chosen(configuration(make_context()), "roadbed_new_cookie", f"  {path}") == ""


def test_every_bucket_is_drawn_and_has_one_percent(make_context: MakeContext) -> None:
    found = re.search(r"split_clients \"([^\"]*)\" \$roadbed_drawn {(.*?)}", configuration(make_context()), re.DOTALL)
    assert found
    assert found[1] == "$remote_addr $http_user_agent"
    assert re.findall(r"(\S+) (\d+);", found[2]) == [("1%", f"{number}") for number in range(99)] + [("*", "99")]


def test_an_answer_with_the_cookie_is_one_visitors_own(make_context: MakeContext) -> None:
    text = configuration(make_context())
    assert chosen(text, "roadbed_private", "") == ""
    assert chosen(text, "roadbed_private", f"{COOKIE}=5; Path=/") == "private"
    for line in (
        "add_header Cache-Control $roadbed_private always;",
        "add_header CDN-Cache-Control $roadbed_private always;",
    ):
        assert line in text


@pytest.mark.parametrize(("cookies", "own"), [(f"{COOKIE}=5", ""), (f"{COOKIE}=5; a=b", "$http_cookie")])
def test_the_cookie_alone_does_not_keep_a_page_from_the_edge(make_context: MakeContext, cookies: str, own: str) -> None:
    """Whose only cookie it is asks for the same page as a visitor without any; the slot is a part of the key."""
    text = configuration(make_context())
    assert chosen(text, "roadbed_own_cookies", cookies) == own
    assert 'map "$roadbed_pages:$request_method:$roadbed_own_cookies$http_authorization' in text
    assert 'proxy_cache_key "$roadbed_moment $roadbed_upstream $host' in text


def test_without_a_share_nginx_looks_for_one_file(make_context: MakeContext) -> None:
    """The words behind the break count only while there is the switch, so nothing else may stand there."""
    text = configuration(make_context())
    server = text[text.index("set $roadbed_upstream shop_a;") :]
    before, _, after = server.partition("if (!-f /var/lib/roadbed/shop/route/canary.on) { break; }")
    after = after[: after.index("# What the app sees")]
    assert "canary." not in before.replace("canary.<bucket>", "")
    assert "named.$" not in before
    flags = re.findall(r"if \(-f /var/lib/roadbed/shop/route/(\S+)\)", after)
    assert flags == [f"canary.$roadbed_bucket.{slot}" for slot in "abc"] + [
        f"named.$roadbed_named.{slot}" for slot in "abc"
    ]
    assert words.bucket_flag(7, "b") == "canary.7.b"
    assert words.named_flag("r1", "b") == "named.r1.b"
    assert set(re.findall(r"^\s*(\w+)", after, re.MULTILINE)) == {"set", "if"}


def test_each_slot_has_its_own_public_files(make_context: MakeContext) -> None:
    text = configuration(make_context())
    assert text.count("root /srv/shop/$roadbed_folder;") == 2
    assert text.count(f"set $roadbed_folder {words.public_link('b')};") == 2


def test_a_larger_share_contains_the_smaller() -> None:
    for release in ("", "r1", "20261126T101500-1a2b3c4"):
        sets = [set(share.buckets(percent, release)) for percent in range(1, 101)]
        assert [len(one) for one in sets] == list(range(1, 101))
        assert all(small < large for small, large in itertools.pairwise(sets))
    assert share.buckets(5, "r1") != share.buckets(5, "r2")
    for percent in (0, 101):
        with pytest.raises(ValueError, match="outside 1-100"):
            share.buckets(percent)


class Here:
    """Runs the scripts of a host in folders of this machine."""

    def __init__(self, folder: Path) -> None:
        self.root, self.route = folder / "srv", folder / "route"
        self.root.mkdir()

    def share(self, slot: str, percent: int, *releases: share.InSlot) -> None:
        app: Any = SimpleNamespace(root=str(self.root), route=str(self.route))
        share.set_share(self.session, app, slot, percent, releases)

    def clear(self) -> None:
        app: Any = SimpleNamespace(root=str(self.root), route=str(self.route))
        share.clear_share(self.session, app)

    @property
    def session(self) -> Any:
        """Runs what a host would be told to run."""
        return SimpleNamespace(run=lambda text: subprocess.run(["sh", "-c", text], check=True))

    def flags(self) -> set[str]:
        return {path.name for path in self.route.iterdir()}


def test_flags_of_a_share(tmp_path: Path) -> None:
    """It grows, shrinks, moves to another slot and ends; other flags stay, and so does the order: add, then remove."""
    here = Here(tmp_path)
    here.route.mkdir()
    (here.route / "active.a").touch()
    for percent in (5, 25, 25, 3):
        here.share("b", percent, share.InSlot("a", "r1", "d1"), share.InSlot("b", "r2", "d2"))
        buckets = {words.bucket_flag(bucket, "b") for bucket in share.buckets(percent, "r2")}
        assert here.flags() == {"active.a", words.SWITCH, "named.d1.a", "named.d2.b", *buckets}
    assert {path.name: str(path.readlink()) for path in here.root.iterdir()} == {
        "public.a": "releases/r1/.roadbed/public",
        "public.b": "releases/r2/.roadbed/public",
    }
    here.share("c", 1)
    assert here.flags() == {"active.a", words.SWITCH, words.bucket_flag(share.buckets(1)[0], "c")}
    for _ in range(2):
        here.clear()
        assert here.flags() == {"active.a"}
    assert list(here.root.iterdir()) == []


@pytest.mark.parametrize(("old", "new"), [("same", "same"), (None, "none"), ("a b", "../x"), ("x" * 65, "$(id)")])
def test_pages_that_name_nothing_of_use(tmp_path: Path, old: str | None, new: str | None) -> None:
    """An id that both releases have, or that nginx would not take: they go where their visitors are sent."""
    here = Here(tmp_path)
    here.share("b", 1, share.InSlot("a", "r1", old), share.InSlot("b", "r2", new))
    assert {flag for flag in here.flags() if flag.startswith("named.")} == set()


def test_what_a_killed_run_left_is_seen() -> None:
    assert not share.shared(HostState(flags=frozenset({"active.a", "old.r0.c", "edge.pages", "maintenance"})))
    for flag in (words.SWITCH, "canary.5.b", "named.r1.a"):
        assert share.shared(HostState(flags=frozenset({"active.a", flag})))


def line(group: str = "shop_a", status: int = 200, took: str = "0.020", **more: Any) -> str:
    """A line of the access log, as nginx writes it."""
    fields = {"status": status, "bytes": 10, "seconds": 1.0, "received": 5, "time": "2026-11-26T10:00:00+00:00"}
    fields |= {
        "path": "/",
        "user_agent": 'x ","group":"shop_b"',
        "upstream": "127.0.0.1:5000",
        "upstream_status": "200",
    }
    release = {"shop_a": "r1", "shop_b": "r2"}.get(group, "r0")
    fields |= {"upstream_header_time": took, "upstream_response_time": took, "group": group, "release": release}
    return json.dumps({**fields, **more}, separators=(",", ":")) + "\n"


def counted(log: Path, since: tuple[str, int] | None, most: int = 1 << 20, without: str = "") -> traffic.Counted:
    """What host/traffic.sh and its reader make of a log."""
    inode, offset = since or ("", 0)
    given = {"log": str(log), "inode": inode, "offset": str(offset), "most": str(most), "without": without}
    text = script("traffic", **given, groups="shop_a a r1 shop_b b r2", slot="b", lines="2")
    done = subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return traffic.parse(done.stdout.splitlines())


def test_counting(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(
        line()
        + line(took="0.1234")
        + line(status=404, took="1.299")
        + line("shop_b", took="0.000")
        + line("shop_b", 502, upstream="127.0.0.1:5020, 127.0.0.1:5021", upstream_status="502, 502", release="")
        + line("shop_b", took="0.010, 0.020 : 0.005", upstream_header_time="-, 0.020 : 0.005")
        + line("shop_b", upstream="")  # a file, or a page that nginx kept
        + line("shop_a", path="/.roadbed/health")
        + line("shop_a", release="r0")  # what ran in the slot before
        + line("shop_a_old")
        + "not a line\n"
    )
    found = counted(log, None)
    assert found.by_slot["a"] == Traffic(3, 0, Counter({20: 1, 120: 1, 1200: 1}), Counter({20: 1, 120: 1, 1200: 1}))
    assert found.by_slot["b"] == Traffic(3, 1, Counter({0: 1, 25: 1}), Counter({0: 1, 35: 1}))
    assert found.mark == (str(log.stat().st_ino), log.stat().st_size)
    assert found.skipped == 0
    assert [one["upstream_status"] for one in found.lines] == ["502, 502"]
    assert "user_agent" not in found.lines[0]


def test_counting_begins_where_it_ended(tmp_path: Path) -> None:
    """Also over a rotation; and of too much at once the newest part is read, which is said."""
    log = tmp_path / "access.log"
    log.write_text(line() * 3)
    first = counted(log, None)
    assert first.by_slot["a"].requests == 3
    assert counted(log, first.mark).by_slot == {}
    with log.open("a") as file:
        file.write(line("shop_b"))
    log.rename(tmp_path / "access.log.1")
    log.write_text(line("shop_b", 500) * 4)
    second = counted(log, first.mark)
    assert second.by_slot["b"] == Traffic(5, 4, Counter({20: 1}), Counter({20: 1}))
    assert len(second.lines) == 2
    log.write_text(log.read_text() + line() * 10)
    third = counted(log, second.mark, most=len(line()) * 4 + 10)
    assert third.by_slot["a"].requests == 4
    assert third.skipped == len(line()) * 6 - 10


def test_counting_without_a_log(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    nothing = counted(log, None)
    assert (nothing.mark, nothing.by_slot) == (("0", 0), {})
    log.write_text(line())
    assert counted(log, nothing.mark).by_slot["a"].requests == 1


def test_images_of_a_service_are_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(line(path="/_next/image") + line(path="/_next/images"))
    assert counted(log, None).by_slot["a"].requests == 2
    assert counted(log, None, without="/_next/image").by_slot["a"].requests == 1


def served(requests: int, failed: int = 0, **times: int) -> Traffic:
    """Requests of which each ms=number took so long; the rest 20 ms."""
    spent = Counter({int(key[2:]): number for key, number in times.items()})
    spent[20] = requests - failed - spent.total()
    return Traffic(requests, failed, spent, spent)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (served(1000), served(50), ""),
        (served(1000), served(50, 2), ""),
        (served(1000), served(5, 3), "3 of 5 requests (60.0 %) failed, of the old release 0 of 1000 requests (0.0 %)"),
        (served(1000, 10), served(50, 3), ""),  # by chance, 1 of 70
        (served(1000, 10), served(50, 6), "6 of 50"),
        (served(1000), served(500, 6), ""),
        (served(1000), served(500, 20), "20 of 500"),
        (served(1000, 900), served(100, 92), ""),  # no worse than what was there
        (served(0), served(10, 3), "3 of 10"),
        (served(1000), served(100, ms200=100), "the 95th percentile until the first byte is 200 ms"),
        (served(1000), served(100, ms110=100), ""),  # not 100 ms more
        (served(1000, ms300=1000), served(100, ms500=100), ""),  # not twice
        (served(1000, ms300=1000), served(100, ms700=100), "700 ms (at least 700 ms), of the old release 300 ms"),
        (served(1000), served(40, ms900=40), ""),  # too few
        (served(30), served(100, ms900=100), ""),
        (served(1000), served(100, ms900=8), ""),  # 8 slow ones of 100 may be chance: 5 are the percentile
        (served(1000), served(100, ms900=20), "900 ms"),
        (served(1000, ms5000=48), served(100, ms5000=8), ""),  # streams, about as many as before
    ],
)
def test_verdict(old: Traffic, new: Traffic, said: str) -> None:
    found = verdict.worse(old, new)
    assert (said in found) if said else (found == "")


def test_a_slow_body_is_seen_too() -> None:
    quick, slow = Counter({20: 100}), Counter({800: 100})
    assert "whole answer" in verdict.worse(Traffic(100, 0, quick, quick), Traffic(100, 0, quick, slow))


def test_bounds() -> None:
    """Wilson's bound by hand: (0.06 + 9/100 - 3 sqrt(0.06 * 0.94 / 50 + 9/10000)) / (1 + 9/50)."""
    assert verdict.least_share(3, 50) == pytest.approx(0.0127, abs=1e-4)
    assert verdict.least_share(0, 0) == 0.0
    times = Counter(dict.fromkeys(range(1, 101), 1))
    assert verdict.quantile(times) == 95
    assert verdict.quantile(times, -verdict.DEVIATIONS) == 88
    assert verdict.quantile(times, verdict.DEVIATIONS) == 100
    assert verdict.quantile(Counter()) == 0


def test_a_sound_release_is_rarely_refused() -> None:
    """Both releases fail 1 in 100 and are slow 1 in 20: of 300 canaries of 18 looks hardly one may stop."""
    import random

    chance = random.Random(7)  # noqa: S311

    def more(number: int) -> Traffic:
        failed = sum(chance.random() < 0.01 for _ in range(number))
        slow = sum(chance.random() < 0.05 for _ in range(number - failed))
        return served(number, failed, ms900=slow)

    stopped = 0
    for _ in range(300):
        old, new = Traffic(), Traffic()
        for look in range(18):
            old, new = (Traffic(), Traffic()) if look % 6 == 0 else (old, new)
            old, new = old + more(190), new + more(10)
            if verdict.worse(old, new):
                stopped += 1
                break
    assert stopped <= 6


def test_evidence_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    kept = evidence.Evidence("prod", "r2", "r1", "b")
    kept.step(5, 60.0)
    kept.figures(served(100), served(10, 3), "3 of 10")
    kept.lines("web-1", [{"status": 500, "path": "/cart"}] * 60, 7)
    kept.journals({"app-1": {"b-0": "one\ntwo"}})
    path = kept.end("aborted", "3 of 10")
    assert path == tmp_path / ".local/state/roadbed/canary/prod/r2.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    read = json.loads(path.read_text())
    assert (read["verdict"], read["reason"]) == ("aborted", "3 of 10")
    assert read["steps"][0]["new"] == {"requests": 10, "failed": 3, "failed_percent": 30.0} | {
        "p95_first_byte_ms": 20,
        "p95_whole_ms": 20,
    }
    assert len(read["failed_requests"]) == evidence.MOST_LINES
    assert kept.shown()[0] == "web-1 500 /cart"
    assert kept.shown()[-1] == "app-1 b-0: two"


@pytest.mark.parametrize(
    ("text", "steps"), [("5,25,100", (5, 25, 100)), ("5", (5, 100)), ("100", (100,)), (" 1%, 50 % ", (1, 50, 100))]
)
def test_steps(text: str, steps: tuple[int, ...]) -> None:
    assert parse_steps(text) == steps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no share"),
        ("0,100", "'0' is no share"),
        ("5,101", "'101' is no share"),
        ("5.5", "'5.5' is no share"),
        ("25,5", "5 after 25: each step is larger"),
        ("5,5", "5 after 5"),
        ("a", "'a' is no share"),
    ],
)
def test_steps_that_are_none(text: str, said: str) -> None:
    with pytest.raises(InventoryError, match=f"--canary: .*{said}.*"):
        parse_steps(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("60s", 60), ("5m", 300), ("1h", 3600)])
def test_watch(text: str, seconds: float) -> None:
    assert parse_watch(text) == seconds


@pytest.mark.parametrize(
    ("text", "said"), [("1 min", "is no time"), ("2s", "outside"), ("25h", "outside"), ("-5", "is no time")]
)
def test_watch_that_is_none(text: str, said: str) -> None:
    with pytest.raises(InventoryError, match=f"--watch: .*{said}"):
        parse_watch(text)


def test_options_together() -> None:
    assert parse_canary(None, None) is None
    assert parse_canary("10", None) == Canary((10, 100), 60.0)
    with pytest.raises(InventoryError, match=r"--watch: .* Say also --canary"):
        parse_canary(None, "60s")
