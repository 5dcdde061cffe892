"""What may be asked of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_atom.analysis.lines import Tolerances
from ase_atom.errors import ConfigError

if TYPE_CHECKING:
    from ase_atom.operator import Operator


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `ase_atom.analysis.compare`.

    Parameters
    ----------
    topology
        Elements of the atoms, for files that do not say.
    operator
        Name, file or operator, to be started from frames of the reference. With a trajectory at
        hand it only adds the comparison of paths from common starts.
    rollout
        Settings of the operator's run, for `ase_atom.analysis.rollout.run_from`; the ensemble is
        the reference's by default.
    starts
        Frames of the reference to start from; by default the starts of its runs, or 32 evenly
        spread ones if those are few.
    energy
        Name or ASE calculator that potential energies and normal modes are computed with; by
        default the operator's own energy, or energies in the files.
    energy_frames
        Frames of either side whose energies are computed.
    infrared
        Compute the dipole of every frame too, which the calculator must have.
    reorder
        Put the trajectory's atoms into the reference's order where the bonds tell how.
    discard
        Time at the start of each run that is left out, fs.
    tolerances
        For the verdicts.
    frame_interval, reference_interval
        fs, for files without times of their own.
    charge
        Total charge in e, for files that do not state it.
    molecule, temperature
        Choose among bursts, see `load_trajectory`.
    seed
        Of the bootstrap and the operator's noise.

    Raises
    ------
    ConfigError
        For settings of an operator's run without an operator.
    """

    topology: Atoms | str | Path | None = None
    operator: str | Operator | None = None
    rollout: dict[str, Any] | None = None
    starts: int | None = None
    energy: str | Calculator | None = None
    energy_frames: int = 400
    infrared: bool = False
    reorder: bool = False
    discard: float = 0.0
    tolerances: Tolerances | None = None
    frame_interval: float | None = None
    reference_interval: float | None = None
    charge: int | None = None
    molecule: str | None = None
    temperature: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.operator is None and (self.rollout or self.starts is not None):
            raise ConfigError(
                "rollout and starts are settings of an operator's run: give operator= as well"
            )
