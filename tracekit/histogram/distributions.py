"""The distributions that intervals are made of: the binomial of any (effective) number of events, and Student's t."""

from __future__ import annotations

import math
from statistics import NormalDist

_SMOOTH = 1e4
"""Variance of a binomial from which the normal approximation is good to one in ten thousand of its tail."""
_EXACT = 1e-12
_TINY = 1e-300


def reaches(x: float, n: float, p: float, tail: float) -> bool:
    """
    Tell whether *x* is more than binomial(n, p) exceeds by chance: whether P(X >= x) < *tail*.

    Neither x nor n need be whole, as effective numbers of events are not: the sum is the incomplete beta function.

    Source:
        Clopper and Pearson, Biometrika 26 (1934) 404; with effective numbers Korn and Graubard, Survey Methodology
        24 (1998) 193. Of many events the normal approximation, its skew put right: Cornish and Fisher (1938).
    """
    if x <= 0:
        return False
    variance = n * p * (1 - p)
    if variance > _SMOOTH:
        z = z_of(1 - tail)
        return x > n * p + math.sqrt(variance) * z + (1 - 2 * p) * (z * z - 1) / 6 + 0.5
    return incomplete_beta(p, x, n - x + 1) < tail


def incomplete_beta(x: float, a: float, b: float) -> float:
    """
    Return the regularised incomplete beta function I_x(a, b).

    Source:
        Its continued fraction, NIST Digital Library of Mathematical Functions 8.17.22, by Lentz's method.
    """
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    below = 1 / (1 - (a + b) * x / (a + 1) or _TINY)
    above, found, m, change = 1.0, below, 0, 0.0
    while abs(change - 1) > _EXACT:
        m += 1
        change = 1.0
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            below = 1 / (1 + term * below or _TINY)
            above = 1 + term / above or _TINY
            change = above * below
            found *= change
    return found * math.exp(log) / a


def z_of(share: float) -> float:
    """Return quantile *share* of the standard normal distribution."""
    return NormalDist().inv_cdf(share)


def student(freedom: float, level: float) -> float:
    """
    Return the half width of the *level* interval of Student's t.

    Source:
        Hill, Algorithm 396, Comm. ACM 13 (1970) 619; six digits from 5 degrees of freedom, three from 1.
    """
    n, both = max(freedom, 1.0), 1 - level
    if n < 1.5:
        return 1 / math.tan(both * math.pi / 2)
    if n < 2.5:
        return math.sqrt(2 / (both * (2 - both)) - 2)
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y = (d * both) ** (2 / n)
    return math.sqrt(n * (_body(n, both, a, b, c, d) if y > 0.05 + a else _tail(n, y, d)))


def _body(n: float, both: float, a: float, b: float, c: float, d: float) -> float:
    x = z_of(both / 2)
    if n < 5:
        c += 0.3 * (n - 4.5) * (x + 0.6)
    c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
    y = x * x
    y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
    return math.expm1(a * y * y)


def _tail(n: float, y: float, d: float) -> float:
    inner = 1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)
    return (inner * y - 1) * (n + 1) / (n + 2) + 1 / y
