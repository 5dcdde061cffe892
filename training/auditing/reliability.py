"""Whether estimated errors can be relied on: correlations, bounds, and a table by size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ase_atom.molecules.topology import canonical
from ase_atom.operator.trust import FEATURES, Calibration
from ase_atom.propagation.expectation import DOUBTFUL, HOPELESS
from training.auditing.trust import Windows, estimates, rank

MAIN = 16.0
"""fs; the stride of the tables by molecule."""


@dataclass(frozen=True)
class Reliability:
    """A calibration, tried on windows of molecules that it was not fitted on.

    Attributes
    ----------
    windows
        The jumps.
    estimate
        Expected error of each, ``[W]``.
    margin
        Nine in ten are to err less than the estimate times this.
    names
        Name and set of molecules by SMILES.
    """

    windows: Windows
    estimate: NDArray
    margin: float
    names: Mapping[str, tuple[str, str]]

    @property
    def below(self) -> NDArray:
        """Which windows err less than their bound, ``[W]``."""
        return self.windows.errors <= self.margin * self.estimate

    def molecules(self, stride: float = MAIN) -> list[tuple[str, str, float, float]]:
        """Name, set, RMS estimate and RMS error of each molecule, by estimate."""
        rows = []
        for smiles in sorted(set(self.windows.molecules)):
            chosen = (self.windows.molecules == smiles) & (self.windows.strides == stride)
            if not chosen.any():
                continue
            name, kind = self.names.get(smiles, (smiles, "all"))
            expected, true = (
                float(np.sqrt(np.mean(side[chosen] ** 2)))
                for side in (self.estimate, self.windows.errors)
            )
            rows.append((name, kind, expected, true))
        return sorted(rows, key=lambda row: row[2])

    def as_markdown(self) -> str:
        """Tables for a page."""
        errors, strides = self.windows.errors, self.windows.strides
        kinds = np.array([self.names.get(s, (s, "all"))[1] for s in self.windows.molecules])
        lines = ["| windows | number | rank correlation | below the bound |", "|---|---|---|---|"]
        groups = [("all", np.ones(len(errors), bool))]
        groups += [(f"{s:g} fs", strides == s) for s in sorted(set(strides.tolist()))]
        groups += [(f"set {kind}", kinds == kind) for kind in sorted(set(kinds.tolist()))]
        for name, rows in groups:
            together = rank(self.estimate[rows], errors[rows]) if rows.sum() > 3 else np.nan
            lines.append(
                f"| {name} | {rows.sum()} | {together:.2f} | {self.below[rows].mean():.0%} |"
            )
        lines += ["", "| estimate | windows | RMS estimate | RMS error | below the bound |"]
        lines.append("|---|---|---|---|---|")
        edges = np.quantile(self.estimate, np.linspace(0, 1, 9))
        for low, high in pairwise(edges):
            rows = (self.estimate >= low) & ((self.estimate < high) | (high == edges[-1]))
            said, true = (np.sqrt(np.mean(side[rows] ** 2)) for side in (self.estimate, errors))
            lines.append(
                f"| {low:.3f} to {high:.3f} | {rows.sum()} | {said:.3f} | {true:.3f} | "
                f"{self.below[rows].mean():.0%} |"
            )
        found = self.molecules()
        if len(found) > 3:
            expected, true = np.array([row[2:] for row in found]).T
            middle = float(np.median(true))
            missed = [row[0] for row in found[: len(found) // 2] if row[3] > 2 * middle]
            lines += [
                "",
                f"Over {len(found)} molecules at {MAIN:g} fs: rank correlation "
                f"{rank(expected, true):.2f}, median error {middle:.3f}; in the lower half of "
                f"estimates with more than twice that: {', '.join(missed) or 'none'}.",
            ]
            lines += ["", self.verdicts()]
        lines += ["", f"| molecule | set | expected at {MAIN:g} fs | error |", "|---|---|---|---|"]
        lines += [f"| {name} | {kind} | {a:.3f} | {b:.3f} |" for name, kind, a, b in found]
        return "\n".join(lines)

    def verdicts(self) -> str:
        """A table of what a run says of the molecules, beside how they err."""
        found = self.molecules()
        rows = [
            f"| at {MAIN:g} fs | molecules | RMS error, median | at least | "
            f"more than {DOUBTFUL:.0%} |",
            "|---|---|---|---|---|",
        ]
        ends = [0.0, DOUBTFUL, HOPELESS, np.inf]
        for what, (low, high) in zip(
            ("taken", "warned of", "refused"), pairwise(ends), strict=True
        ):
            true = np.array([row[3] for row in found if low <= row[2] < high])
            if len(true):
                rows.append(
                    f"| {what} | {len(true)} | {np.median(true):.3f} | {true.min():.3f} | "
                    f"{(true > DOUBTFUL).sum()} |"
                )
        return "\n".join(rows)

    def draw(self, folder: Path) -> Path:
        """Draw errors against estimates, one point a window, and return the picture."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        folder.mkdir(parents=True, exist_ok=True)
        figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
        kinds = [self.names.get(s, (s, "all"))[1] for s in self.windows.molecules]
        for kind in sorted(set(kinds)):
            rows = np.array([each == kind for each in kinds])
            axes.loglog(self.estimate[rows], self.windows.errors[rows], ".", ms=3, label=kind)
        ends = np.array([self.estimate.min(), self.estimate.max()])
        axes.loglog(ends, ends, "k-", lw=1, label="as expected")
        axes.loglog(ends, self.margin * ends, "k--", lw=1, label="bound of nine in ten")
        axes.set_xlabel("expected error")
        axes.set_ylabel("error against the reference")
        axes.legend(frameon=False, fontsize=8)
        path = folder / "trust.png"
        figure.savefig(path, dpi=150)
        pyplot.close(figure)
        return path


def judge(
    calibration: Calibration, windows: Windows, names: Mapping[str, tuple[str, str]]
) -> Reliability:
    """Try a calibration on windows of molecules that it was not fitted on."""
    by_name = {_plain(smiles): value for smiles, value in names.items()}
    named = {s: by_name[_plain(s)] for s in set(windows.molecules.tolist()) if _plain(s) in by_name}
    return Reliability(windows, estimates(calibration, windows), calibration.margin, named)


def described(calibration: Calibration) -> str:
    """A calibration in words."""
    terms = " + ".join(
        f"{weight:g} ln {name}"
        for name, weight in zip(FEATURES, calibration.weights, strict=True)
        if weight
    )
    ranges = ", ".join(
        f"{stride:g} fs {low:.3g} to {high:.3g}"
        for stride, (low, high) in zip(calibration.strides_fs, calibration.trained, strict=True)
    )
    return (
        f"ln error = {calibration.offset:g} + {terms}; nine in ten below "
        f"{calibration.margin:g} times that; fitted on {calibration.windows} windows of "
        f"{calibration.molecules} molecules; estimates of trained molecules: {ranges}"
    )


def _plain(smiles: str) -> str:
    return canonical(smiles)
