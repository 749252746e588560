"""The load of the rollout proof: its arithmetic, and that it notices each way in which a request can fail."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .odds import claim, upper_bound
from .traffic import RATES, Request, Traffic, count, fetched_node, percentile, scaled

SHOP = Path(__file__).with_name("shop.cjs")


@pytest.mark.parametrize(
    ("failed", "total", "bound"),
    [
        (0, 1, 0.95),
        (0, 10, 0.258866),
        (0, 100, 0.029513),
        (1, 10, 0.394163),
        (5, 100, 0.102253),
        (10, 10, 1.0),
    ],
)
def test_bound_is_that_of_the_tables(failed: int, total: int, bound: float) -> None:
    assert upper_bound(failed, total) == pytest.approx(bound, abs=2e-6)


def test_bound_of_none_is_the_rule_of_three() -> None:
    assert upper_bound(0, 65_637) == pytest.approx(1 - 0.05 ** (1 / 65_637), rel=1e-9)
    assert upper_bound(0, 65_637) == pytest.approx(3 / 65_637, rel=0.002)
    assert claim(0, 65_637) == "0 of 65637, at 95 % confidence below 1 in 21910"


def test_bound_of_some_is_where_so_few_become_unlikely() -> None:
    """Many requests too: the sum stays exact where factorials do not fit into floats."""
    bound = upper_bound(79, 8_961)
    assert 79 / 8_961 < bound < 0.0107
    assert claim(79, 8_961).startswith("79 of 8961, at 95 % confidence below 1.1 %")
    assert upper_bound(79, 8_961, 0.99) > bound


@pytest.mark.parametrize(("failed", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be(failed: int, total: int) -> None:
    with pytest.raises(ValueError, match="no count of failures"):
        upper_bound(failed, total)


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99), percentile([], 50)) == (50, 99, 7, 0)


def test_times_are_of_answered_requests_alone() -> None:
    good = [Request("c", "page", 0.0, 0.0, took / 10) for took in range(1, 11)]
    bad = Request("c", "page", 0.0, 0.0, 60.0, "truncated: 5 characters")
    found = count("page", [*good, bad])
    assert (found.requests, found.failed, found.truncated, found.p50, found.p99) == (11, 1, 1, 0.5, 1.0)


def test_rates_are_60_to_100_a_second() -> None:
    assert 60 <= sum(rate for kinds in RATES.values() for rate in kinds.values()) <= 100
    assert scaled(0.5)["fetch"]["page"] == RATES["fetch"]["page"] / 2


@pytest.fixture(scope="module")
def node() -> Path:
    """The Node.js that releases are built with."""
    return fetched_node()


Shop = Callable[[str], "tuple[Traffic, str]"]


@pytest.fixture
def visited(node: Path, tmp_path: Path) -> Shop:
    """``visited(fault)``: the load of one second, and the log of the shop with that fault."""

    def visit(fault: str) -> tuple[Traffic, str]:
        with shop(node, tmp_path, fault) as (process, port):
            rates = {client: dict.fromkeys(kinds, 8.0) for client, kinds in RATES.items()}
            with (
                Traffic("127.0.0.1", "shop.example.test", tmp_path, port=port, rates=rates) as traffic,
                traffic.during("a second"),
            ):
                time.sleep(1)
            log = process.communicate()[0]
        return traffic, log

    return visit


@contextmanager
def shop(node: Path, folder: Path, fault: str) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """A server of ``shop.cjs`` with a certificate of its own."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=shop.example.test", "-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run([*words, *names], check=True, capture_output=True)
    command = [str(node), str(SHOP), str(folder / "certificate"), str(folder / "key"), fault]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


def test_a_shop_that_works_has_no_failures(visited: Shop) -> None:
    traffic, log = visited("")
    assert traffic.failures == []
    assert {(r.client, r.kind) for r in traffic.requests} == {(c, k) for c, kinds in RATES.items() for k in kinds}
    assert len(traffic.requests) > 150
    assert (traffic.releases, traffic.goaways, traffic.unanswered) == (["r1"], 0, 0)
    orders = traffic.orders(log)
    assert (orders.lost, orders.doubled) == (set(), set())
    assert len(orders.sent) == len(orders.answered) == len(orders.done) > 20
    assert [row.name for row in traffic.by_section()] == ["a second"]
    assert "failed: 0 of" in traffic.report()


@pytest.mark.parametrize(
    ("fault", "kind", "error"),
    [
        ("cut", "stream", "truncated: "),
        ("half", "stream", "truncated: "),
        ("error", "info", "status: HTTP 503"),
        ("reset", "action", "reset: "),
        ("mangle", "upload", "wrong: "),
    ],
)
def test_each_fault_is_noticed_by_each_client(visited: Shop, fault: str, kind: str, error: str) -> None:
    traffic, _ = visited(fault)
    failed = [request for request in traffic.requests if request.error and request.kind == kind]
    assert {request.client for request in failed} == set(RATES)
    assert [request for request in failed if not request.error.startswith(error)] == []
    assert traffic.as_json()["truncated"] == (len(failed) if error.startswith("truncated") else 0)
    assert traffic.as_json()["bound"] > len(failed) / len(traffic.requests)


def test_actions_that_are_lost_or_doubled_are_noticed(visited: Shop) -> None:
    traffic, log = visited("twice")
    orders = traffic.orders(log)
    assert orders.doubled == orders.sent
    assert orders.lost == set()
    traffic, log = visited("forget")
    orders = traffic.orders(log)
    assert orders.lost == orders.answered == orders.sent
    assert "0 recorded by the app" in str(orders)


def test_a_load_that_cannot_begin_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="/order was not answered at the beginning"),
        Traffic("127.0.0.1", "shop.example.test", tmp_path, port=9),
    ):
        pass
