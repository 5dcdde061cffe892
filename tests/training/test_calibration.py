"""The line and the bound of expected errors."""

import numpy as np
import pytest

from training.auditing import trust


def windows(rng: np.random.Generator, names: list[str], scatter: float) -> trust.Windows:
    """Errors about the square root of what positions miss, of forty windows a molecule."""
    count = 40 * len(names)
    features = np.exp(rng.uniform(-4, 0, (count, 4)))
    errors = 0.5 * np.sqrt(features[:, 0]) * np.exp(scatter * rng.standard_normal(count))
    return trust.Windows(np.repeat(names, 40), np.full(count, 16.0), errors, features)


def test_the_bound_is_that_of_molecules_that_were_not_trained_on():
    rng = np.random.default_rng(0)
    trained, others = [f"C{n}" for n in range(20)], [f"N{n}" for n in range(20)]
    both = trust.joined([windows(rng, trained, 0.05), windows(rng, others, 0.5)])
    found = trust.fit(both, trained)
    assert found.weights[0] == pytest.approx(0.5, abs=0.05)
    assert found.margin == pytest.approx(np.exp(1.28 * 0.5), rel=0.1)
    fresh = windows(rng, [f"O{n}" for n in range(20)], 0.5)
    below = fresh.errors <= found.margin * trust.estimates(found, fresh)
    assert below.mean() == pytest.approx(0.9, abs=0.03)


def test_few_other_molecules_leave_the_bound_to_all():
    rng = np.random.default_rng(1)
    trained, others = [f"C{n}" for n in range(40)], [f"N{n}" for n in range(trust.UNKNOWN - 1)]
    both = trust.joined([windows(rng, trained, 0.1), windows(rng, others, 1.0)])
    assert trust.fit(both, trained).margin < np.exp(1.28 * 0.5)
