"""The no-op benchmark, run for real: `provision` beside stock pyinfra on the same machine in the same minutes."""

import importlib.util
from types import ModuleType

import pytest

from .conftest import ROOT, Stack

RATIO = 3.0
"""How many times as long stock pyinfra must take. Seconds depend on the machine, the ratio does not."""


def benchmark() -> ModuleType:
    """``benchmarks/noop.py``, which is a script."""
    spec = importlib.util.spec_from_file_location("noop", ROOT / "benchmarks/noop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_noop_takes_less_than_a_third_of_what_stock_pyinfra_takes(pair: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADBED_IDENTITY", pair.environment["ROADBED_IDENTITY"])
    result = benchmark().compare(pair.path, "pair-13", 5)
    print(f"\nprovision {result['provision']:.2f} s, pyinfra {result['pyinfra']:.2f} s, ratio {result['ratio']:.1f}")
    assert result["operations"] > 40
    assert result["ratio"] >= RATIO
