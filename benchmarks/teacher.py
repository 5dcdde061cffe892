"""AIMNet2 and GFN2-xTB beside density functional theory: ``python benchmarks/teacher.py FOLDER``.

Forces on thermal geometries, harmonic frequencies and torsion profiles of compounds that no
training sees, against ωB97M-V/def2-TZVP. Every density functional calculation is kept in the
folder: the same command goes on where it stopped, and prints what is finished as Markdown.
Needs ``pip install '.[training,dft]'``.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import typer
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixInternals
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS
from ase.units import Bohr, Hartree, fs, kcal, mol
from numpy.typing import NDArray
from rdkit import Chem

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT))  # training is run from the checkout and not installed

from ase_atom.analysis.molecule.minima import modes_at  # noqa: E402
from ase_atom.files import replace_text  # noqa: E402
from training.data.molecules import Molecule, from_smiles  # noqa: E402
from training.engines.aimnet2 import EnsembleCalculator, load_ensemble  # noqa: E402
from training.engines.xtb import EnergyAndForces  # noqa: E402

COMPOUNDS = {
    "sulfur dioxide": "O=S=O",
    "azide ion": "[N-]=[N+]=[N-]",
    "chlorite ion": "[O-][Cl+][O-]",
    "dicyanamide ion": "N#C[N-]C#N",
    "nitrogen trichloride": "ClN(Cl)Cl",
    "methyl cyanate": "COC#N",
    "dichloroketene": "O=C=C(Cl)Cl",
    "nitromethanide ion": "[CH2-][N+](=O)[O-]",
    "methylperoxide ion": "CO[O-]",
    "protonated methanol": "C[OH2+]",
    "ethoxide ion": "CC[O-]",
    "1,1,1-trifluoroethane": "CC(F)(F)F",
    "1,2-dibromoethane": "BrCCBr",
    "diazoethane": "CC=[N+]=[N-]",
    "imidazole": "c1c[nH]cn1",
    "2-chloroethanethiol": "SCCCl",
    "1,2,4-trioxolane": "C1OCOO1",
    "ethyl azide": "CCN=[N+]=[N-]",
    "cyclopentadiene": "C1=CCC=C1",
    "cyclobutane": "C1CCC1",
}
"""All held out of training, the cheapest first."""

TORSIONS = {
    "2-chloroethanethiol, S-C-C-Cl": ("SCCCl", (0, 1, 2, 3)),
    "1,2-dibromoethane, Br-C-C-Br": ("BrCCBr", (0, 1, 2, 3)),
    "ethyl azide, C-C-N-N": ("CCN=[N+]=[N-]", (0, 1, 2, 3)),
}
TEMPERATURE = 350.0
SMALL = 6
"""Atoms up to which frequencies are computed."""


class Reference(Calculator):
    """ωB97M-V/def2-TZVP through PySCF, density fitted; results are kept in a folder."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, folder: Path, charge: int) -> None:
        super().__init__()
        self._folder, self._charge = folder, charge

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute ``energy`` (eV) and, where they are asked for, ``forces`` (eV/Å)."""
        super().calculate(atoms, properties, system_changes)
        content = [self.atoms.numbers.tolist(), self.atoms.positions.round(7).tolist()]
        digest = hashlib.sha256(json.dumps([content, self._charge]).encode()).hexdigest()[:24]
        path = self._folder / f"{digest}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if "energy" not in known or ("forces" in (properties or []) and "forces" not in known):
            known = self._compute("forces" in (properties or []))
            replace_text(path, json.dumps(known))
        self.results = {"energy": known["energy"]}
        if "forces" in known:
            self.results["forces"] = np.array(known["forces"])

    def _compute(self, forces: bool) -> dict:
        from pyscf import dft, gto

        start = time.process_time()
        molecule = gto.M(
            atom=list(zip(self.atoms.symbols, self.atoms.positions, strict=True)),
            basis="def2-tzvp",
            charge=self._charge,
            verbose=0,
        )
        field = dft.RKS(molecule, xc="wb97m_v").density_fit()
        field.grids.level = 3
        field.nlcgrids.level = 1  # of a correlation that varies slowly, at a cost of its square
        field.conv_tol = 1e-9
        energy = field.kernel()
        if not field.converged:
            raise RuntimeError(f"{self.atoms.symbols}: the field did not converge")
        known = {"energy": float(energy) * Hartree}
        if forces:
            known["forces"] = (-field.nuc_grad_method().kernel() * Hartree / Bohr).tolist()
        return known | {"seconds": time.process_time() - start}


def gfn2(charge: int) -> Calculator:
    """GFN2-xTB at a total charge."""
    return EnergyAndForces(method="GFN2-xTB", verbosity=0, accuracy=0.1, charge=charge)


def aimnet2(charge: int) -> Calculator:
    """The first member of AIMNet2."""
    return EnsembleCalculator(load_ensemble(), charge)


METHODS = {"AIMNet2": aimnet2, "GFN2-xTB": gfn2}


def relaxed(molecule: Molecule, calculator: Calculator, start: Atoms | None = None) -> Atoms:
    """The molecule at the nearest minimum of a method."""
    atoms = molecule.start(0, 0) if start is None else start.copy()
    atoms.calc = calculator
    BFGS(atoms, logfile=None).run(fmax=0.005, steps=300)
    return atoms


def thermal_geometries(molecule: Molecule) -> Iterator[Atoms]:
    """One geometry of each method's own dynamics, so that neither has the advantage."""
    for number, method in enumerate(METHODS.values()):
        atoms = relaxed(molecule, method(molecule.charge))
        random = np.random.default_rng(number)
        thermalize_momenta(atoms, temperature_K=TEMPERATURE, rng=random)
        Langevin(
            atoms,
            0.5 * fs,
            temperature_K=TEMPERATURE,
            friction=0.02 / fs,
            fixcm=False,
            rng=random,
        ).run(600)
        yield Atoms(atoms.numbers, atoms.positions)


def rms(difference: NDArray) -> float:
    """Root mean square over components, in meV/Å."""
    return 1000 * float(np.sqrt((difference**2).mean()))


def force_errors(molecule: Molecule, folder: Path) -> dict[str, list[float]]:
    """RMS force errors of each method on the thermal geometries, in meV/Å."""
    errors: dict[str, list[float]] = {}
    for place, atoms in enumerate(kept_geometries(molecule, folder)):
        atoms.calc = Reference(folder, molecule.charge)
        truth = atoms.get_forces()
        members = load_ensemble().member_forces(
            atoms.positions[None], atoms.numbers[None], np.array([molecule.charge])
        )[:, 0]
        atoms.calc = gfn2(molecule.charge)
        found = [rms(forces - truth) for forces in members]
        found += [rms(members.mean(0) - truth), rms(atoms.get_forces() - truth), rms(truth)]
        errors[str(place)] = found
    return errors


def kept_geometries(molecule: Molecule, folder: Path) -> list[Atoms]:
    """Thermal geometries, made once and kept in the folder."""
    path = folder / f"{hashlib.sha256(molecule.smiles.encode()).hexdigest()[:12]}.geometries.json"
    if not path.exists():
        made = [(a.numbers.tolist(), a.positions.tolist()) for a in thermal_geometries(molecule)]
        replace_text(path, json.dumps(made))
    return [Atoms(numbers, positions) for numbers, positions in json.loads(path.read_text())]


def frequencies(
    molecule: Molecule, calculator: Calculator, start: Atoms | None
) -> tuple[Atoms, NDArray]:
    """Minimum of a method and its harmonic wavenumbers there, 1/cm, ascending."""
    atoms = relaxed(molecule, calculator, start)
    return atoms, modes_at(atoms).wavenumbers


def scan(
    molecule: Molecule, quartet: tuple[int, int, int, int], calculator: Calculator
) -> Iterator[Atoms]:
    """Structures relaxed at torsions of 0 to 180°, every 30°."""
    for angle in range(0, 181, 30):
        atoms = relaxed(molecule, calculator)
        atoms.set_dihedral(*quartet, angle, indices=beyond(molecule.smiles, quartet))
        atoms.set_constraint(FixInternals(dihedrals_deg=[[float(angle), list(quartet)]]))
        BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
        yield Atoms(atoms.numbers, atoms.positions)


def profile_error(own: Sequence[float], reference: Sequence[float]) -> float:
    """RMS difference of two profiles, each about its mean."""
    difference = np.array(own) - np.mean(own) - (np.array(reference) - np.mean(reference))
    return float(np.sqrt((difference**2).mean()))


def torsion(smiles: str, quartet: tuple[int, int, int, int], folder: Path) -> dict[str, float]:
    """RMS difference of each method's torsion profile from the reference's, in kcal/mol."""
    molecule = from_smiles(smiles, charges=(-1, 0, 1))
    profiles: dict[str, list[float]] = {"reference": [], **{name: [] for name in METHODS}}
    for still in scan(molecule, quartet, aimnet2(0)):
        for name, calculator in (
            ("reference", Reference(folder, 0)),
            *((name, make(0)) for name, make in METHODS.items()),
        ):
            still.calc = calculator
            profiles[name].append(still.get_potential_energy() / (kcal / mol))
    truth = profiles["reference"]
    errors = {name: profile_error(profiles[name], truth) for name in METHODS}
    return errors | {"height": float(np.ptp(truth))}


def beyond(smiles: str, quartet: tuple[int, int, int, int]) -> list[int]:
    """Atoms on the far side of a torsion's bond."""
    graph = Chem.AddHs(Chem.MolFromSmiles(smiles))
    bond = graph.GetBondBetweenAtoms(quartet[1], quartet[2])
    if bond is None or bond.IsInRing():
        raise ValueError(f"{smiles}: the atoms {quartet[1:3]} do not share a bond outside rings")
    cut = Chem.FragmentOnBonds(graph, [bond.GetIdx()], addDummies=False)
    return next(list(part) for part in Chem.GetMolFrags(cut) if quartet[3] in part)


def main(
    folder: Annotated[Path, typer.Argument(help="Where calculations are kept.")],
    only: Annotated[str, typer.Option(help="forces, frequencies, torsions, or none.")] = "all",
    minutes: Annotated[float, typer.Option(help="Begin nothing new after so long.")] = 1e9,
) -> None:
    """Compute what is missing and print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "tables.json"
    known: dict[str, dict] = json.loads(table.read_text()) if table.exists() else {}
    end = time.monotonic() + 60 * minutes
    for kind, name, work in _tasks(folder):
        done = known.setdefault(kind, {})
        if name in done or only not in ("all", kind) or time.monotonic() > end:
            continue
        start = time.monotonic()
        done[name] = work()
        replace_text(table, json.dumps(known, indent=1))
        print(f"{kind}, {name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    _print(known)


def _tasks(folder: Path) -> Iterator[tuple]:
    molecules = {name: from_smiles(text, charges=(-1, 0, 1)) for name, text in COMPOUNDS.items()}
    for name, molecule in molecules.items():
        yield "forces", name, lambda molecule=molecule: force_errors(molecule, folder)
    for name, molecule in molecules.items():
        if len(molecule.numbers()) <= SMALL:
            yield "frequencies", name, lambda molecule=molecule: _frequency_errors(molecule, folder)
    for name, (smiles, quartet) in TORSIONS.items():
        yield (
            "torsions",
            name,
            lambda smiles=smiles, quartet=quartet: torsion(smiles, quartet, folder),
        )


def _frequency_errors(molecule: Molecule, folder: Path) -> dict[str, float]:
    minimum, own = frequencies(molecule, aimnet2(molecule.charge), None)
    _, truth = frequencies(molecule, Reference(folder, molecule.charge), minimum)
    _, other = frequencies(molecule, gfn2(molecule.charge), minimum)
    return {
        "AIMNet2": float(np.abs(own - truth).mean()),
        "GFN2-xTB": float(np.abs(other - truth).mean()),
    }


def _print(known: dict[str, dict]) -> None:
    forces = known.get("forces", {})
    print("| compound | AIMNet2, one member (range of four) | mean of four | GFN2-xTB | forces |")
    print("|---|---|---|---|---|")
    ones, means, others = [], [], []
    for name, geometries in forces.items():
        rows = np.array(list(geometries.values()))
        one, mean, other, size = (np.mean(rows[:, place]) for place in (0, 4, 5, 6))
        low, high = rows[:, :4].mean(0).min(), rows[:, :4].mean(0).max()
        print(
            f"| {name} | {one:.0f} ({low:.0f}-{high:.0f}) | {mean:.0f} | {other:.0f} | {size:.0f} |"
        )
        ones, means, others = [*ones, one], [*means, mean], [*others, other]
    if ones:
        middle = [np.median(values) for values in (ones, means, others)]
        print("| **median of {}** | **{:.0f}** | {:.0f} | {:.0f} | |".format(len(ones), *middle))
    for kind, unit, digits in (("frequencies", "1/cm", 0), ("torsions", "kcal/mol", 2)):
        if found := known.get(kind):
            print(f"\n| {kind}, {unit} | AIMNet2 | GFN2-xTB |\n|---|---|---|")
            for name, values in found.items():
                print(
                    f"| {name} | {values['AIMNet2']:.{digits}f} | {values['GFN2-xTB']:.{digits}f} |"
                )


if __name__ == "__main__":
    typer.run(main)
