"""How many instances fit on a host, and how much memory each gets."""

import pytest

from roadbed.deploys.app import AppSettings
from roadbed.deploys.sizing import Sizing, size

TABLE = [
    # replicas, memory, cpus, MiB of the host -> replicas, MiB each, heap
    ("auto", "auto", 1, 960, (1, 288, 216)),
    ("auto", "auto", 2, 2000, (1, 808, 606)),
    ("auto", "auto", 2, 8000, (2, 1904, 1428)),
    ("auto", "auto", 4, 64000, (4, 2048, 1536)),
    ("auto", "auto", 8, 8000, (3, 1269, 951)),
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
