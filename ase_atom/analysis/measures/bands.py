"""Bands of two spectra: paired, assigned to internal coordinates, and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.lines import Line
from ase_atom.analysis.measures.pair import Pair
from ase_atom.analysis.measures.spectra import (
    STEP,
    Band,
    Spectrum,
    find_bands,
    normalised,
    power_spectrum,
    smoothing,
)
from ase_atom.analysis.molecule.coordinates import CoordinateClass
from ase_atom.analysis.statistics import Estimate

_FAR = 50.0  # cm⁻¹; bands further apart are not taken for the same
_AROUND = 25.0  # cm⁻¹ to either side whose power counts as a band's
_COVERED = 0.99  # of the reference's power lies in its bands
_RESAMPLES = 300
_MOTION = {"bond": "stretch", "angle": "bend", "torsion": "torsion"}


def compare_bands(
    pair: Pair, ours: Spectrum, theirs: Spectrum, window: float, kind: str = "vibrational"
) -> tuple[list[Line], list[tuple[float, str]]]:
    """Return lines on bands and wrong power, and the reference's bands with their names.

    Parameters
    ----------
    pair
        The two trajectories.
    ours, theirs
        Spectra of both.
    window
        fs, for the spectra of coordinates that bands are named after.
    kind
        ``vibrational`` or ``infrared``.
    """
    prefix = "" if kind == "vibrational" else f"{kind} "
    mine, other = (find_bands(side, pair.random) for side in (ours, theirs))
    names = assign(pair.reference, pair.coordinates.classes, other, window)
    resolution = max(ours.resolution, theirs.resolution)
    tolerance = pair.tolerances.peak
    lines, matched = [], set()
    for i, j in _matches(mine, other):
        matched |= {("mine", i), ("other", j)}
        note = ""
        sides = [
            _position(band, spectrum) for band, spectrum in ((mine[i], ours), (other[j], theirs))
        ]
        if resolution > tolerance:
            # Two bands that merge into one may hide any shift up to the resolution.
            sides = [_widened(side, resolution) for side in sides]
            note = f"these runs resolve {resolution:.0f} cm⁻¹"
        label = f"{prefix}band {other[j].position:.0f} cm⁻¹, {names[j]}"
        lines.append(Line("dynamics", f"{kind} bands", label, "cm⁻¹", *sides, tolerance, note=note))
    for which, bands in (("other", other), ("mine", mine)):
        for index, band in enumerate(bands):
            if (which, index) not in matched:
                owner = "reference" if which == "other" else "trajectory"
                lines.append(_lone_band(pair, ours, theirs, band, owner, prefix))
    if kind == "vibrational":
        lines.append(_wrong_power(pair, ours, theirs))
    return lines, [(band.position, name) for band, name in zip(other, names, strict=True)]


def _matches(mine: Sequence[Band], other: Sequence[Band]) -> list[tuple[int, int]]:
    """Pairs of bands that minimise the distances between them, none further apart than `_FAR`."""
    if not (mine and other):
        return []
    distance = np.abs(np.subtract.outer([b.position for b in mine], [b.position for b in other]))
    # Beyond the limit all are alike, so that near pairs are not given up for far ones.
    rows, columns = linear_sum_assignment(np.minimum(distance, _FAR))
    found = [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if distance[i, j] < _FAR]
    return sorted(found, key=lambda ij: other[ij[1]].position)


def _position(band: Band, spectrum: Spectrum) -> Estimate:
    # The grid has its share: no band is known to better than a tenth of the resolution.
    error = math.hypot(band.error, 0.1 * spectrum.resolution)
    count = float(len(spectrum.windows))
    return Estimate(band.position, error, 2 * count, max(count - 1, 1.0))


def _widened(side: Estimate, resolution: float) -> Estimate:
    return Estimate(
        side.value, math.hypot(side.error, 0.5 * resolution), side.samples, side.freedom
    )


def _lone_band(
    pair: Pair, ours: Spectrum, theirs: Spectrum, band: Band, owner: str, prefix: str
) -> Line:
    """The power about a band that has no counterpart, beside that of the other side."""
    near = np.abs(ours.wavenumbers - band.position) <= _AROUND
    sides = [_share(side, near, pair.random) for side in (ours, theirs)]
    return Line(
        "dynamics",
        f"power of {prefix}bands without counterpart",
        f"{prefix}power about {band.position:.0f} cm⁻¹",
        "",
        *sides,
        pair.tolerances.band_ratio,
        "ratio",
        f"a band of the {owner} without counterpart",
    )


def _share(spectrum: Spectrum, where: np.ndarray, random: np.random.Generator) -> Estimate:
    drawn = spectrum.drawn(random)[:, where].sum(1) * STEP
    count = float(len(spectrum.windows))
    value = float(spectrum.power[where].sum() * STEP)
    error = float(drawn.std(ddof=1)) if count > 1 else math.nan
    return Estimate(value, error, 2 * count, max(count - 1, 1.0))


def _wrong_power(pair: Pair, ours: Spectrum, theirs: Spectrum) -> Line:
    """Share of the trajectory's power where the reference, within the tolerance, has none.

    The reference's bands are the highest parts of its smoothed spectrum that hold 99 % of its
    power, widened by the tolerance for band positions on either side.
    """
    smooth = gaussian_filter1d(theirs.power, smoothing(theirs.resolution) / STEP)
    order = np.argsort(smooth)[::-1]
    inside = np.zeros(len(smooth), dtype=bool)
    count = int(np.searchsorted(np.cumsum(smooth[order]) / smooth.sum(), _COVERED)) + 1
    inside[order[:count]] = True
    reach = int(pair.tolerances.peak / STEP)
    widened = np.convolve(inside, np.ones(2 * reach + 1), mode="same") > 0
    found = [_share(side, ~widened, pair.random) for side in (ours, theirs)]
    return Line(
        "dynamics",
        "power in wrong bands",
        "power outside the reference's bands",
        "",
        *found,
        pair.tolerances.band_power,
    )


def assign(
    reference: Trajectory,
    classes: Sequence[CoordinateClass],
    bands: Sequence[Band],
    window: float,
) -> list[str]:
    """Name each band after the internal coordinate that moves most at it.

    The rate of each class of coordinates has a spectrum of its own; of unit area, it says which
    share of that coordinate's motion lies at a band. The largest share gives the name, so this is
    a hint and no potential-energy distribution.
    """
    if not bands:
        return []
    highest = max(band.position for band in bands) + 200
    shares = []
    for one in classes:
        rates = [one.rates(run.positions, run.velocities) for run in reference]
        found = power_spectrum(rates, reference.interval, window, highest)
        power = normalised(found.windows.sum(0))
        shares.append(
            [power[np.abs(found.wavenumbers - band.position) <= _AROUND].sum() for band in bands]
        )
    best = np.argmax(np.array(shares), axis=0)
    return [f"{classes[k].label} {_MOTION[classes[k].kind]}" for k in best]
