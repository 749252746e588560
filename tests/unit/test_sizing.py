"""How many instances fit on a host, and how much memory each gets."""

import pytest

from roadbed.deploys.app import AppSettings
from roadbed.deploys.sizing import Sizing, size

TABLE = [
    # replicas, memory, cpus, MiB of the host -> replicas, MiB each, heap
    ("auto", "auto", 1, 960, (1, 288, 216)),
    ("auto", "auto", 2, 2000, (1, 538, 403)),
    ("auto", "auto", 1, 1800, (1, 708, 531)),
    ("auto", "auto", 2, 8000, (2, 1523, 1142)),
    ("auto", "auto", 4, 64000, (4, 2048, 1536)),
    ("auto", "auto", 8, 8000, (3, 1088, 816)),
    (2, 512, 2, 4000, (2, 512, 384)),
    (4, "auto", 2, 4000, (4, 452, 339)),
]


def app(replicas: object, memory: object) -> AppSettings:
    return AppSettings.model_validate(
        {"name": "shop", "source": ".", "domain": "shop.example.com", "replicas": replicas, "memory": memory}
    )


@pytest.mark.parametrize(("replicas", "memory", "cpus", "host", "expected"), TABLE)
def test_instances_fit_twice(replicas: object, memory: object, cpus: int, host: int, expected: tuple[int, ...]) -> None:
    sizing = size(app(replicas, memory), cpus, host)
    assert sizing == Sizing(*expected)
    assert 2 * sizing.replicas * sizing.memory_mb + 384 <= host


def test_an_instance_that_is_kept_for_open_pages_is_counted_where_it_leaves_enough_for_the_others() -> None:
    kept, none = app(2, "auto"), app(2, "auto").model_copy(update={"skew": 0})
    assert size(none, 2, 8000).memory_mb == (8000 - 384) // 4
    assert size(kept, 2, 8000).memory_mb == (8000 - 384) // 5
    assert size(kept, 2, 2384).memory_mb == 500
    assert size(kept, 2, 2384) == size(none, 2, 2384)


@pytest.mark.parametrize(
    ("replicas", "memory", "host", "message"),
    [
        (4, 1024, 2048, r"4 x 1024 MiB, twice during a rollout, make 8192 MiB, but 2048 MiB less 384 MiB .* 1664 MiB"),
        (6, "auto", 2048, r"6 x 256 MiB, twice during a rollout, make 3072 MiB"),
        ("auto", "auto", 700, r"1 x 256 MiB, twice during a rollout, make 512 MiB, but 700 MiB"),
    ],
)
def test_an_impossible_sum_is_refused_with_the_arithmetic(
    replicas: object, memory: object, host: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        size(app(replicas, memory), 2, host)
