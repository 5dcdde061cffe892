"""Rotations that lay structures on each other, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ase_atom.superposition import superposing_rotations

SHAPES = {
    "chiral": np.array([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [0, 0, 2.0], [1, 1, 0.3]]),
    "mirror image": np.array([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [0, 0, -2.0], [1, 1, -0.3]]),
    "planar": np.array([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [1, 1, 0], [2, 3, 0.0]]),
    "line": np.array([[0, 0, 0], [1, 0, 0], [2.5, 0, 0], [3, 0, 0], [4, 0, 0.0]]),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_rotations_are_proper_and_as_good_as_those_of_scipy(shape: str, weighted: bool) -> None:
    random = np.random.default_rng(1)
    weights = random.uniform(1, 16, 5) if weighted else np.ones(5)
    share = weights / weights.sum()
    target = SHAPES[shape] - share @ SHAPES[shape]
    turned = Rotation.random(20, rng=random).as_matrix()
    structures = SHAPES["chiral"] @ turned + 0.1 * random.standard_normal((20, 5, 3))
    structures -= np.einsum("n,tnx->tx", share, structures)[:, None]
    rotations, sums = superposing_rotations(structures, target, weights if weighted else None)
    unity = rotations @ rotations.swapaxes(1, 2) - np.eye(3)
    np.testing.assert_allclose(unity, 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-12)
    left = ((structures @ rotations - target) ** 2).sum(2) @ weights
    np.testing.assert_allclose(sums, left, rtol=1e-9, atol=1e-9)
    best = [Rotation.align_vectors(target, each, weights)[1] ** 2 for each in structures]
    np.testing.assert_allclose(sums, best, rtol=1e-7, atol=1e-9)


def test_each_structure_may_have_a_target_of_its_own() -> None:
    random = np.random.default_rng(2)
    targets = random.standard_normal((7, 4, 3))
    targets -= targets.mean(1, keepdims=True)
    turned = targets @ Rotation.random(7, rng=random).as_matrix()
    rotations, sums = superposing_rotations(turned, targets)
    np.testing.assert_allclose(turned @ rotations, targets, atol=1e-12)
    np.testing.assert_allclose(sums, 0, atol=1e-12)
