"""The steps of an evaluation, one after another, each adding its section to the report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from ase_atom.analysis.molecule.harmonic import HarmonicGuess
from ase_atom.analysis.molecule.symmetry import bond_classes
from ase_atom.interruption import Interrupted
from ase_atom.molecules.coverage import temperature_warning
from ase_atom.molecules.topology import canonical, perceive_bonds
from ase_atom.propagation import NVE, is_reversible
from ase_atom.units import PS
from training.evaluation import plots, report
from training.evaluation.accuracy import MoleculeKey, chain_lags, lag_errors
from training.evaluation.energy import energy_errors
from training.evaluation.minima import compare_spectra, minima_of
from training.evaluation.predictors import (
    Predictor,
    ballistic,
    chained,
    direct,
    harmonic,
    stay,
)
from training.evaluation.preparation import REPORT, Prepared, Settings, prepare
from training.evaluation.rollouts import Plan, starting_states
from training.evaluation.verdicts import (
    compare_bonds,
    langevin_report,
    nve_report,
    reference_energy,
    reference_observables,
)

Guesses = Mapping[MoleculeKey, HarmonicGuess]


def run(settings: Settings) -> None:
    """Evaluate as the settings say.

    Raises
    ------
    AtomError
        For any bad input, before anything is written.
    Interrupted
        If a rollout was interrupted; what there was of it is in the report.
    """
    Evaluation(prepare(settings)).run()


class Evaluation:
    """One evaluation under way.

    Parameters
    ----------
    prepared
        Checked input.

    Attributes
    ----------
    report
        Sections so far, plain data.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.it = prepared
        self.console = Console()
        self.report: dict[str, Any] = {}

    def run(self) -> None:
        """Take all steps, or those until one is interrupted.

        Raises
        ------
        Interrupted
            After the others and the report.
        """
        self.it.folder.mkdir(parents=True, exist_ok=True)
        self._describe()
        guesses = self._guesses()
        self._accuracy(guesses)
        self._energies(guesses)
        steps = (
            (self.it.settings.langevin_ps, self._langevin),
            (self.it.settings.nve_ps, self._nve),
        )
        stopped = any(picoseconds and step(picoseconds) for picoseconds, step in steps)
        self.console.print(f"report and figures: {self.it.folder}")
        if stopped:
            raise Interrupted

    def _describe(self) -> None:
        card, chosen = self.it.operator.card, self.it.chosen
        known = {canonical(smiles) for smiles in card.smiles}
        strange = sorted({key[0] for key in self.it.groups if canonical(key[0]) not in known})
        self.report |= {
            "command": shlex.join(["python", "-m", "training.evaluate", *sys.argv[1:]]),
            "checkpoint": card.model_dump(mode="json", exclude={"split", "training_config"}),
            "data": {
                "paths": [str(path) for path in self.it.settings.data],
                "fingerprint": chosen.fingerprint,
                "same_as_training_data": chosen.same_data,
                "split": chosen.split,
                "bursts": [burst.key for burst in chosen.bursts],
                "unseen": chosen.unseen,
                "molecules_not_trained_for": strange,
                "note": chosen.note,
            },
        }
        self.console.print(f"{card.name} ({card.level_of_theory}): {chosen.note}")
        if strange:
            self.console.print(f"{card.name} was not trained for {', '.join(strange)}")
        warning = temperature_warning(self.it.settings.temperature, card)
        if warning and (self.it.settings.langevin_ps or self.it.settings.nve_ps):
            self.console.print(f"warning: {warning}")

    def _guesses(self) -> dict[MoleculeKey, HarmonicGuess]:
        """Harmonic guess of each molecule; none at all if one of them has none."""
        reason, guesses = self.it.no_engine, {}
        if self.it.engine is not None:
            with report.progress("relaxing and differentiating", len(self.it.groups)) as advance:
                for key, bursts in self.it.groups.items():
                    guess = minima_of(bursts, self.it.engine)
                    if guess is None:
                        reason = f"no frame of {key[0]} relaxed to a minimum"
                        break
                    guesses[key] = guess
                    advance(1)
        if reason:
            guesses = {}
            self.console.print(f"harmonic guess and frequencies skipped: {reason}")
        self.report["harmonic"] = {
            "skipped": reason or None,
            "minima": {key[0]: len(guess.minima) for key, guess in guesses.items()},
        }
        return guesses

    def _accuracy(self, guesses: Guesses) -> None:
        """One jump to each lag, and strides chained up to where the bursts end."""
        operator, bursts = self.it.operator, self.it.chosen.bursts
        single = self._errors_of(direct(operator), self.it.lags, guesses)
        self.report["lag_errors"] = single
        report.show_lags(self.console, single, "One jump")
        lags = chain_lags(bursts, self.it.stride)
        repeated = None
        if lags:
            reversible = is_reversible(NVE, self.it.settings.reversible)
            predictor = chained(operator, self.it.stride, reversible)
            repeated = self._errors_of(predictor, lags, guesses)
            repeated["stride_fs"] = self.it.stride
            self.report["chained_errors"] = repeated
            repeated["reversible"] = reversible
            way = ", reversible" if reversible else ", single-pass"
            report.show_lags(self.console, repeated, f"Chained by {self.it.stride:g} fs{way}")
        title = f"{operator.card.name}, {len(bursts)} bursts ({self.it.chosen.split})"
        plots.lag_plot(self.it.folder / "error_by_lag.png", single, repeated, title)
        self._save()

    def _errors_of(self, own: Predictor, lags: Sequence[float], guesses: Guesses) -> dict[str, Any]:
        predictors = {}
        for key in self.it.groups:
            predictors[key] = {"operator": own, "stay": stay, "ballistic": ballistic}
            if guesses:
                predictors[key]["harmonic"] = harmonic(guesses[key])
        bursts, starts = self.it.chosen.bursts, self.it.settings.starts
        with report.progress("comparing with the reference", starts * len(bursts)) as advance:
            errors = lag_errors(bursts, predictors, lags, starts, advance)
        return report.lag_section(errors)

    def _energies(self, guesses: Guesses) -> None:
        """The energy head on reference frames, and its harmonic frequencies."""
        operator = self.it.operator
        errors = energy_errors(operator, self.it.chosen.bursts, self.it.settings.starts)
        self.report["energy_head"] = report.energy_section(errors)
        report.show_energies(self.console, self.report["energy_head"])
        if guesses:
            spectra = {}
            with report.progress("frequencies", len(guesses)) as advance:
                for key, guess in guesses.items():
                    found = compare_spectra(
                        operator, np.asarray(key[1]), guess, self.it.groups[key][0].charge
                    )
                    spectra[key[0]] = [spectrum.as_dict() for spectrum in found]
                    advance(1)
            self.report["frequencies"] = spectra
            report.show_spectra(self.console, spectra)
        self._save()

    def _langevin(self, picoseconds: float) -> bool:
        """Canonical rollout; whether it was interrupted."""
        burst = self.it.groups[self.it.key][0]
        bonds = perceive_bonds(burst.numbers, burst.positions[0])
        classes = bond_classes(burst.numbers, bonds)
        plan = self._plan(picoseconds)
        with report.progress("Langevin dynamics, jumps", plan.jumps) as advance:
            section, run, watch = langevin_report(
                self.it.operator, self._starts(plan), plan, classes, self.it.engine, advance
            )
        section["molecule"] = self.it.key[0]
        there, energies = None, None
        if self.it.reference is not None:
            there = reference_observables(self.it.reference, classes, plan.temperature)
            energies = reference_energy(self.it.reference)
            section |= {
                "comparison": compare_bonds(section["bonds"], there.bond_lengths()),
                "reference_temperature": there.temperatures(),
                "reference_run_potential_energy": energies,
            }
        self.report["langevin"] = section
        self._save()
        report.show_langevin(self.console, section)
        title = f"{self._title(section)}, {plan.temperature:g} K"
        plots.temperature_plot(
            self.it.folder / "temperature.png",
            watch.temperature_edges,
            watch.temperature_density(),
            watch.dof["internal"],
            plan.temperature,
            f"{title}: motion about the centre of mass",
        )
        labels = [group.label for group in classes]
        plots.bond_plot(
            self.it.folder / "bonds.png",
            watch.bond_edges,
            {label: watch.bond_density(i) for i, label in enumerate(labels)},
            there and {label: there.bond_density(i) for i, label in enumerate(labels)},
            f"{title}: bond lengths",
        )
        values = np.array(run.potential)
        if np.isfinite(values).any():
            zero = energies["mean_eV"] if energies else float(np.nanmean(values))
            plots.energy_plot(
                self.it.folder / "langevin_energy.png",
                np.array(run.times) / PS,
                values - zero,
                "potential energy / eV",
                f"{title}: reference engine's energy of the frames",
                (0.0, energies["std_eV"]) if energies else None,
            )
        return run.interrupted

    def _nve(self, picoseconds: float) -> bool:
        """Microcanonical rollout; whether it was interrupted."""
        plan = self._plan(picoseconds)
        with report.progress("microcanonical dynamics, jumps", plan.jumps) as advance:
            section, run = nve_report(
                self.it.operator, self._starts(plan), plan, self.it.engine, advance
            )
        section["molecule"] = self.it.key[0]
        self.report["nve"] = section
        self._save()
        report.show_nve(self.console, section)
        total = np.array(run.potential) + np.array(run.kinetic)
        if np.isfinite(total).any():
            plots.energy_plot(
                self.it.folder / "nve_energy.png",
                np.array(run.times) / PS,
                1000 * (total - total[0]) / len(self.it.key[1]),
                "change of total energy / meV per atom",
                f"{self._title(section)}, NVE: kinetic plus reference engine's potential energy",
            )
        return run.interrupted

    def _plan(self, picoseconds: float) -> Plan:
        settings = self.it.settings
        return Plan(
            duration=picoseconds * PS,
            stride=self.it.stride,
            temperature=settings.temperature,
            friction=settings.friction,
            energy_correction=settings.energy_correction,
            reversible=settings.reversible,
            seed=settings.seed,
        )

    def _starts(self, plan: Plan) -> Any:
        bursts, replicas = self.it.groups[self.it.key], self.it.settings.replicas
        return starting_states(bursts, replicas, plan.temperature, plan.seed)

    def _title(self, section: Mapping[str, Any]) -> str:
        return f"{self.it.operator.card.name}, {section['replicas']} replicas"

    def _save(self) -> None:
        report.write_report(self.report, self.it.folder / REPORT)
