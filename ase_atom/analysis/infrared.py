"""The infrared absorption of one trajectory, from the dipoles of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from numpy.typing import NDArray

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.measures.infrared import infrared_spectrum
from ase_atom.analysis.measures.spectra import Band, find_bands
from ase_atom.analysis.power import checked_interval, checked_window, write_columns
from ase_atom.errors import DataError
from ase_atom.files import replace_file
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

_BANDS = 8  # that are named


@dataclass(frozen=True)
class InfraredSpectrum:
    """Infrared absorption of a molecule in the gas phase.

    Attributes
    ----------
    wavenumbers
        cm⁻¹, ``[n]``.
    absorption
        Molar absorption in km/mol for each cm⁻¹, ``[n]``: the area of a band is its intensity in
        km/mol, as of calculations of normal modes.
    window, resolution, windows
        As of `ase_atom.analysis.power.PowerSpectrum`.
    temperature
        K, by which the classical motion is divided.
    bands
        The strongest, by position.
    """

    wavenumbers: NDArray[Any]
    absorption: NDArray[Any]
    window: float
    resolution: float
    windows: int
    temperature: float
    bands: tuple[Band, ...]

    def write_csv(self, path: Path) -> None:
        """Write wavenumbers and absorption in columns."""
        names = ["wavenumber_cm-1", "absorption_km_per_mol_per_cm-1"]
        write_columns(path, names, [self.wavenumbers, self.absorption])

    def draw(self, path: Path, title: str = "") -> None:
        """Draw it to a picture."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.wavenumbers, self.absorption, "k-", lw=1)
        axes.set_xlim(0, self.wavenumbers[-1])
        axes.set_ylim(0, None)
        axes.set_xlabel("wavenumber (cm⁻¹)")
        axes.set_ylabel("absorption (km mol⁻¹ / cm⁻¹)")
        axes.set_title(title, fontsize=10)
        replace_file(path, lambda scratch: figure.savefig(scratch, dpi=150, format=path.suffix[1:]))


def infrared(
    trajectory: Trajectory,
    temperature: float,
    highest: float | None = None,
    window: float | None = None,
) -> InfraredSpectrum:
    """Compute the infrared absorption from the autocorrelation of the dipole's rate.

    A(ν) = N_A / (6 ε₀ c k_B T) ∫ ⟨Ṁ(0)·Ṁ(t)⟩ exp(−2πiνt) dt, the absorption with the harmonic
    quantum correction factor βħω/(1 − exp(−βħω)) (Ramírez, López-Ciudad, Kumar and Marx, J. Chem.
    Phys. 121, 3973 (2004)); of a harmonic oscillator its area is N_A |∂M/∂Q|² / (12 ε₀ c²).

    Parameters
    ----------
    trajectory
        With times, and the dipole of every frame in e Å.
    temperature
        At which the molecule moved, K.
    highest, window
        As of `ase_atom.analysis.power.power_spectrum`.

    Raises
    ------
    DataError
        If frames have no dipoles, lie too far apart for the bands or are too few.
    ConfigError
        For a window that is longer than the runs, or too short.
    """
    if any(run.dipoles is None for run in trajectory):
        raise DataError(f"{trajectory.short_name} holds no dipoles")
    interval, top = checked_interval(trajectory, highest)
    lengths = [(len(run) - 1) * interval for run in trajectory]
    chosen = checked_window(trajectory, lengths, window)
    found = infrared_spectrum(trajectory, chosen, top)
    # Of a window of n rates tapered by w the spectral density is Δt |Σ w Ṁ exp(…)|² / Σ w².
    length = int((chosen - interval) / interval + 1e-6)
    taper = np.hanning(length + 2)[1:-1]
    density = interval / (taper**2).sum() * found.windows.mean(0)
    bands = find_bands(found, np.random.default_rng(0))
    strongest = sorted(bands, key=lambda band: -band.height)[:_BANDS]
    return InfraredSpectrum(
        found.wavenumbers,
        _per_density(temperature) * density,
        chosen,
        found.resolution,
        len(found.windows),
        temperature,
        tuple(sorted(strongest, key=lambda band: band.position)),
    )


def kinetic_temperature(trajectory: Trajectory) -> float | None:
    """Mean temperature in K about the centre of mass; None without velocities, or of one atom."""
    if not trajectory.has_velocities or len(trajectory.numbers) < 2:
        return None
    masses = trajectory.masses
    total, frames = 0.0, 0
    moving = zip(trajectory.series("velocities"), trajectory.kinetic_energies(), strict=True)
    for velocities, kinetic in moving:
        momentum = np.einsum("n,tnx->tx", masses, velocities)
        whole = 0.5 * AMU_A2_FS2_IN_EV * (momentum**2).sum(1) / masses.sum()
        total += float((kinetic - whole).sum())
        frames += len(kinetic)
    return 2 * total / frames / ((3 * len(masses) - 3) * KB)


def _per_density(temperature: float) -> float:
    """Factor from a spectral density in (e Å/fs)² fs to km/mol for each cm⁻¹."""
    charge, light, permittivity = units._e, units._c, units._eps0
    rate = (charge * 1e5) ** 2 * 1e-15  # (C m/s)² s
    molar = units._Nav / (6 * permittivity * light * units._k * temperature)  # m²/mol
    return float(0.1 * molar * rate)  # 100 m⁻¹ are a cm⁻¹, 1000 m a km
