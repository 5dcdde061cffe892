"""Error bars, divergences and verdicts, against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from ase_atom.analysis.lines import Line, Tolerances, Verdict, headlines, holm, judge
from ase_atom.analysis.statistics import (
    Estimate,
    correlated_mean,
    divergence,
    divergence_estimate,
    paired_difference,
    width,
)
from ase_atom.errors import ConfigError


def correlated(memory: float, runs: int, frames: int, random: np.random.Generator) -> np.ndarray:
    """Stationary series of unit variance whose neighbours correlate by ``memory``."""
    out = np.empty((runs, frames))
    out[:, 0] = random.normal(size=runs)
    kicks = math.sqrt(1 - memory**2) * random.normal(size=(runs, frames))
    for frame in range(1, frames):
        out[:, frame] = memory * out[:, frame - 1] + kicks[:, frame]
    return out


@pytest.mark.parametrize(
    ("memory", "runs", "frames"), [(0.0, 1, 1000), (0.9, 1, 4000), (0.9, 16, 250)]
)
def test_intervals_of_correlated_means_cover_the_truth(memory, runs, frames):
    random = np.random.default_rng(1)
    tries = 150
    hits, errors = 0, []
    for _ in range(tries):
        found = correlated_mean(list(correlated(memory, runs, frames, random)))
        hits += abs(found.value) < student.ppf(0.975, found.freedom) * found.error
        errors.append(found.error)
    assert 0.90 <= hits / tries <= 1.0
    truth = math.sqrt((1 + memory) / (1 - memory) / (runs * frames))
    assert 0.85 * truth < np.mean(errors) < 1.45 * truth  # the largest level is a little too large
    samples = runs * frames * (1 - memory) / (1 + memory)
    assert 0.4 * samples < found.samples < 1.5 * samples


def test_what_differs_between_runs_alone_is_seen():
    """Constant runs: every frame of a run repeats one independent number."""
    levels = np.random.default_rng(0).normal(size=20)
    found = correlated_mean([np.full(500, level) for level in levels])
    assert found.error == pytest.approx(levels.std(ddof=1) / math.sqrt(20), rel=0.1)
    assert found.samples == pytest.approx(20, rel=0.3)


def test_a_constant_is_known_exactly_and_one_value_is_not():
    assert correlated_mean([np.full(50, 1.5)]).error == 0.0
    assert math.isnan(correlated_mean([np.array([1.5])]).error)


def test_pairs_cancel_what_they_share():
    random = np.random.default_rng(2)
    shared = 10 * random.normal(size=(12, 1))
    ours = shared + 0.1 * random.normal(size=(12, 100)) + 0.5
    theirs = shared + 0.1 * random.normal(size=(12, 100))
    found = paired_difference(list(ours), list(theirs))
    assert found.value == pytest.approx(0.5, abs=0.02)
    assert found.error < 0.01
    apart = [correlated_mean(list(side)).error for side in (ours, theirs)]
    assert math.hypot(*apart) > 2.0


def test_the_width_of_equivalent_coordinates_is_pooled():
    random = np.random.default_rng(3)
    found = width([0.03 * random.normal(size=(2000, 3)) + 1.1 for _ in range(4)])
    assert found.value == pytest.approx(0.03, abs=4 * found.error)
    assert found.error == pytest.approx(0.03 / math.sqrt(2 * 24000), rel=0.6)


def test_divergence_of_known_distributions():
    half = np.array([1.0, 1.0, 0.0, 0.0])
    assert divergence(half, half[::-1]) == pytest.approx(math.log(2))
    assert divergence(half, 5 * half) == pytest.approx(0.0, abs=1e-15)
    # By hand: H(3/4, 1/4) − H(1/2, 1/2)/2 of (1, 0) and (1/2, 1/2).
    by_hand = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) - 0.5 * math.log(2)
    assert divergence(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(by_hand)


def test_equal_distributions_do_not_seem_to_diverge():
    random = np.random.default_rng(4)
    shape = np.exp(-0.5 * np.linspace(-3, 3, 60) ** 2)
    shape /= shape.sum()
    found, plain = [], []
    for _ in range(60):
        blocks = [random.multinomial(40, shape, size=25).astype(float) for _ in range(2)]
        found.append(divergence_estimate(*blocks, random, 200).value)
        plain.append(divergence(blocks[0].sum(0), blocks[1].sum(0)))
    assert np.mean(plain) > 0.008
    assert abs(np.mean(found)) < 0.2 * np.mean(plain)


def test_holm_by_hand():
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])


def line(value: float, error: float, samples: float = 100.0, tolerance: float = 1.0) -> Line:
    ours = Estimate(value, error, samples, samples)
    return Line("structure", "things", "thing", "Å", ours, Estimate(0.0), tolerance)


@pytest.mark.parametrize(
    ("value", "error", "samples", "verdict"),
    [
        (0.0, 0.1, 100, Verdict.AGREES),
        (0.7, 0.1, 100, Verdict.AGREES),
        (0.9, 0.1, 100, Verdict.UNCLEAR),
        (1.1, 0.1, 100, Verdict.UNCLEAR),
        (-2.0, 0.1, 100, Verdict.DIFFERS),
        (0.0, 2.0, 100, Verdict.UNCLEAR),
        (0.0, 0.1, 5, Verdict.UNCLEAR),  # too few samples to believe the error
        (0.0, math.nan, 100, Verdict.UNCLEAR),
        (0.9, 0.0, math.inf, Verdict.AGREES),
        (1.1, 0.0, math.inf, Verdict.DIFFERS),
    ],
)
def test_verdicts(value, error, samples, verdict):
    assert judge([line(value, error, samples)])[0].verdict is verdict


def test_many_faultless_lines_seldom_differ():
    """At the tolerance itself, the worst case, at most one report in twenty has a false alarm."""
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        lines = judge([line(1.0 + 0.1 * noise, 0.1) for noise in random.normal(size=60)])
        alarms += any(one.verdict is Verdict.DIFFERS for one in lines)
    assert alarms <= 20


def test_a_ratio_counts_both_errors():
    one = Line(
        "structure", "widths", "w", "Å", Estimate(1.1, 0.03), Estimate(1.0, 0.04), 0.1, "ratio"
    )
    found = judge([one])[0]
    assert found.deviation == pytest.approx(0.1)
    assert found.error == pytest.approx(math.hypot(0.03, 1.1 * 0.04))


def test_a_headline_is_as_bad_as_its_worst_line():
    rows = headlines(judge([line(0.1, 0.01), line(5.0, 0.01), line(0.0, 9.0)]))
    assert len(rows) == 1
    assert rows[0].verdict is Verdict.DIFFERS
    assert rows[0].worst.deviation == 5.0
    assert [rows[0].counts[v] for v in Verdict] == [1, 1, 1]


def test_tolerances_from_the_command_line():
    assert Tolerances.parse(["bond_mean=0.01"]).bond_mean == 0.01
    with pytest.raises(ConfigError, match="no tolerance 'bonds'"):
        Tolerances.parse(["bonds=1"])
    for wrong in ("peak=-3", "peak=wide", "peak", "peak=inf"):
        with pytest.raises(ConfigError, match="number above zero"):
            Tolerances.parse([wrong])
