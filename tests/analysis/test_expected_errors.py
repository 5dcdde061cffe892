"""The course of the expected error in the comparison."""

from types import SimpleNamespace

import numpy as np
from ase.build import molecule

from ase_atom.analysis import load_trajectory
from ase_atom.analysis.measures.trust import add_expected_errors
from ase_atom.analysis.plots import Section
from ase_atom.analysis.report.figures import draw
from ase_atom.io import open_trajectory

TIMES = 16.0 * np.arange(10)
ERRORS = np.array([np.nan, 0.02, 0.03, 0.2, 0.3, 0.02, 0.01, 0.02, 0.4, 0.5])
STRIDES = np.array([np.nan, 16, 16, 0, 0, 32, 32, 8, 0, 0])


def written(path, **told):
    atoms = molecule("CH3CH2OH")
    noise = np.random.default_rng(0).standard_normal((10, 9, 3))
    with open_trajectory(path, atoms, "w") as writer:
        writer.write_frames(atoms.positions + 0.01 * noise, 0.01 * noise, TIMES, **told)
    return load_trajectory(path)


def test_stretches_of_forces_are_coloured_beside_temperature_and_energy(tmp_path):
    energies = np.linspace(-1, 1, 10)
    for name in ("a.extxyz", "a.traj"):
        run = written(tmp_path / name, energies=energies, expected_errors=ERRORS, strides=STRIDES)
        section = Section("thermodynamics")
        add_expected_errors(SimpleNamespace(trajectory=run), section)
        (plot,) = section.plots
        titles = [panel.title for panel in plot.panels]
        assert titles == ["temperature", "potential energy", "expected error"]
        for panel in plot.panels:
            np.testing.assert_allclose(panel.shaded, [(0.032, 0.064), (0.112, 0.144)])
        (curve,) = plot.panels[2].curves
        np.testing.assert_allclose(curve.y, 100 * ERRORS)
        assert section.facts == [("frames moved by a calculator's forces", "44.4 %")]
        assert len(draw(plot).axes) == 3


def test_a_run_without_tolerance_has_no_such_plot(tmp_path):
    section = Section("thermodynamics")
    add_expected_errors(SimpleNamespace(trajectory=written(tmp_path / "a.extxyz")), section)
    assert not section.plots
    assert not section.facts


def test_estimates_of_some_frames_are_joined(tmp_path):
    few = np.where(np.arange(10) % 3 == 0, ERRORS, np.nan)
    section = Section("thermodynamics")
    run = written(tmp_path / "a.extxyz", expected_errors=few)
    add_expected_errors(SimpleNamespace(trajectory=run), section)
    (plot,) = section.plots
    assert [panel.title for panel in plot.panels] == ["temperature", "expected error"]
    (curve,) = plot.panels[1].curves
    np.testing.assert_allclose(curve.y, 100 * few[[3, 6, 9]])
    np.testing.assert_allclose(1000 * curve.x, TIMES[[3, 6, 9]])
    assert not plot.panels[1].shaded
    assert not section.facts
    assert "forces" not in plot.caption
