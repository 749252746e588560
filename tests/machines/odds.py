"""What a count of failures proves: the exact upper bound of their rate (Clopper and Pearson, Biometrika 1934)."""

from math import exp, lgamma, log, log1p


def upper_bound(failed: int, total: int, confidence: float = 0.95) -> float:
    """The highest rate at which ``failed`` or fewer of ``total`` would still be seen with 1 - ``confidence``.

    One-sided. For none it is 1 - (1 - confidence) ** (1 / total), which is near 3 / total at 95 %: the rule of three
    (Hanley and Lippman-Hand, JAMA 1983). It supposes that requests fail independently of one another and speaks of
    the load that was sent, and of no other. Raises ValueError for counts that cannot be.
    """
    if not 0 <= failed <= total or total == 0 or not 0 < confidence < 1:
        raise ValueError(f"{failed} of {total} with confidence {confidence} is no count of failures")
    if failed == total:
        return 1.0
    low, high = failed / total, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(failed, total, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def claim(failed: int, total: int) -> str:
    """``0 of 65637, at 95 % confidence below 1 in 21910``, or with failures ``... below 0.031 %``."""
    bound = upper_bound(failed, total)
    words = f"1 in {int(1 / bound)}" if failed == 0 else f"{100 * bound:.2g} %"
    return f"{failed} of {total}, at 95 % confidence below {words}"


def _at_most(failed: int, total: int, rate: float) -> float:
    """Probability of ``failed`` or fewer out of ``total``, each with ``rate``; by logarithms, for large totals."""
    if rate >= 1:
        return 0.0
    terms = (
        lgamma(total + 1) - lgamma(k + 1) - lgamma(total - k + 1) + k * log(rate) + (total - k) * log1p(-rate)
        for k in range(failed + 1)
    )
    return sum(map(exp, terms))
