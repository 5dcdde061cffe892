"""What an evaluation found, as plain data for JSON and as tables on the screen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ase_atom.analysis.statistics import to_list
from ase_atom.files import replace_text
from training.evaluation.accuracy import LagErrors
from training.evaluation.energy import EnergyErrors

_KINDS = {"position": "RMS position error / RMS displacement",
          "velocity": "RMS velocity error / RMS velocity"}  # fmt: skip


def lag_section(errors: LagErrors) -> dict[str, Any]:
    """Relative errors of every predictor, and the operator's by element and by temperature."""
    names = list(errors.sums)
    own = names[0]
    return {
        "lags_fs": [float(lag) for lag in errors.lags],
        "starts": errors.starts,
        "bursts": len(errors.temperatures),
        "interval": "95 % bootstrap over bursts",
        "predictors": {name: errors.overall(name).as_dict() for name in names},
        "by_element": {
            chemical_symbols[element]: {"position": to_list(x), "velocity": to_list(v)}
            for element, (x, v) in errors.by_element(own).items()
        },
        "by_temperature": {
            f"{kelvin:g}": interval.as_dict()
            for kelvin, interval in errors.by_temperature(own).items()
        },
    }


def energy_section(errors: EnergyErrors) -> dict[str, Any]:
    """Errors of the energy head in meV and meV/Å."""
    return {
        "frames": errors.frames,
        "force_rmse_meV_per_A": 1000 * errors.force_rmse,
        "force_rms_meV_per_A": 1000 * errors.force_rms,
        "force_rmse_by_element_meV_per_A": {
            chemical_symbols[element]: 1000 * value for element, value in errors.by_element.items()
        },
        "energy_rmse_meV": 1000 * errors.energy_rmse,
        "energy_std_meV": 1000 * errors.energy_std,
        "energy_offset": "mean difference of each molecule removed",
    }


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write JSON so that a reader finds either the old file or the whole new one."""
    replace_text(path, json.dumps(report, indent=1, allow_nan=False) + "\n")


def show_lags(console: Console, section: Mapping[str, Any], heading: str) -> None:
    """Two tables, of positions and velocities: a row for each predictor, a column for each lag."""
    for kind, label in _KINDS.items():
        table = _lag_table(f"{heading}: {label}", section["lags_fs"])
        for name, values in section["predictors"].items():
            table.add_row(name, *map(_number, values[kind]))
            if name == "operator":
                bounds = zip(values[f"{kind}_low"], values[f"{kind}_high"], strict=True)
                table.add_row("  95 % interval", *(_interval(*pair) for pair in bounds))
        for element, values in section["by_element"].items():
            table.add_row(f"  operator, {element}", *map(_number, values[kind]))
        for kelvin, values in section["by_temperature"].items():
            table.add_row(f"  operator, {kelvin} K", *map(_number, values[kind]))
        console.print(table)


def _lag_table(title: str, lags: Sequence[float]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("lag", no_wrap=True)
    for lag in lags:
        table.add_column(f"{lag:g} fs", justify="right")
    return table


def show_energies(console: Console, section: Mapping[str, Any]) -> None:
    """Errors of the energy head."""
    table = _facts(f"Energy head, {section['frames']} frames")
    by_element = ", ".join(
        f"{element} {value:.1f}"
        for element, value in section["force_rmse_by_element_meV_per_A"].items()
    )
    table.add_row(
        "force RMSE per component",
        f"{section['force_rmse_meV_per_A']:.1f} meV/Å ({by_element}); "
        f"RMS force {section['force_rms_meV_per_A']:.0f} meV/Å",
    )
    table.add_row(
        "energy RMSE",
        f"{section['energy_rmse_meV']:.1f} meV, each molecule's offset removed; "
        f"standard deviation {section['energy_std_meV']:.0f} meV",
    )
    console.print(table)


def show_spectra(console: Console, spectra: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Harmonic frequencies of every minimum against the reference."""
    table = _facts("Harmonic frequencies against the reference engine")
    for smiles, minima in spectra.items():
        for minimum in minima:
            table.add_row(
                f"{smiles}, minimum at {1000 * minimum['relative_energy_eV']:.0f} meV",
                f"largest difference {minimum['largest_difference_per_cm']:.1f} cm⁻¹, structures "
                f"{minimum['structure_shift_angstrom']:.4f} Å apart",
            )
    console.print(table)


def show_langevin(console: Console, section: Mapping[str, Any]) -> None:
    """Temperature, energy and bond lengths of a canonical run."""
    table = _facts(_heading("Langevin", section))
    _broken_row(table, section)
    for part, values in section["temperature"].items():
        table.add_row(
            f"temperature, {part}",
            f"{_number(values['mean_K'], 1)} ± {_number(values['standard_error_K'], 1)} K "
            f"(N_f = {values['degrees_of_freedom']})",
        )
    for name, label in (
        ("reference_potential_energy", "reference potential energy on frames"),
        ("reference_run_potential_energy", "the same in the reference run"),
    ):
        if name in section:
            values = section[name]
            table.add_row(
                label,
                f"{_number(values['mean_eV'], 4)} ± {_number(values['standard_error_eV'], 4)} eV, "
                f"std {_number(values['std_eV'], 4)} eV",
            )
    if "reference_temperature" in section:
        values = section["reference_temperature"]["internal"]
        table.add_row(
            "temperature of the reference run",
            f"{_number(values['mean_K'], 1)} ± {_number(values['standard_error_K'], 1)} K "
            f"(N_f = {values['degrees_of_freedom']})",
        )
    _head_row(table, section)
    console.print(table)
    bonds = Table(title="Bond lengths / Å", title_justify="left", title_style="bold")
    for column in ("bond", "mean", "width"):
        bonds.add_column(column)
    compared = {row["bond"]: row for row in section.get("comparison", {}).get("bonds", [])}
    if compared:
        for column in ("reference mean", "reference width", "mean − reference", "width ratio"):
            bonds.add_column(column)
    for row in section["bonds"]:
        cells = [_with_error(row, ""), _with_error(row, "", "width")]
        if compared:
            other = compared[row["bond"]]
            cells += [
                _with_error(other, "reference_"),
                _with_error(other, "reference_", "width"),
                f"{other['mean_difference_angstrom']:+.4f}",
                f"{other['width_ratio']:.3f}",
            ]
        bonds.add_row(row["bond"], *cells)
    console.print(bonds)


def show_nve(console: Console, section: Mapping[str, Any]) -> None:
    """Energy drift and momenta of a microcanonical run."""
    table = _facts(_heading("NVE", section))
    _broken_row(table, section)
    if "total_energy_drift" in section:
        drift = section["total_energy_drift"]
        table.add_row(
            "drift of total energy",
            f"{_number(drift['mean_meV_per_atom_per_ps'], 3)} ± "
            f"{_number(drift['standard_error'], 3)} "
            f"meV/atom/ps, worst replica {_number(drift['worst_replica'], 2)}",
        )
        table.add_row(
            "change of total energy at the end",
            f"mean {_number(drift['change_at_end_mean_meV_per_atom'], 2)}, worst "
            f"{_number(drift['change_at_end_worst_meV_per_atom'], 2)} meV/atom",
        )
    table.add_row(
        "largest change of momentum", f"{section['momentum_change_amu_A_per_fs']:.1e} amu Å/fs"
    )
    table.add_row(
        "largest change of angular momentum",
        f"{section['angular_momentum_change_amu_A2_per_fs']:.1e} amu Å²/fs "
        f"(RMS at start {section['initial_angular_momentum_rms_amu_A2_per_fs']:.3g})",
    )
    _head_row(table, section)
    console.print(table)


def _heading(name: str, section: Mapping[str, Any]) -> str:
    kept = "energy restored after jumps" if section["energy_correction"] else "uncorrected"
    turns = {True: "reversible", None: "on average reversible", False: "single-pass"}
    turn = turns[section["reversible"]]
    cut = ", interrupted" if section["interrupted"] else ""
    return (
        f"{name}: {section['replicas']} replicas × {section['duration_ps']:g} ps, "
        f"{section['temperature_K']:g} K, {section['stride_fs']:g} fs {turn} jumps, {kept}{cut}"
    )


def _broken_row(table: Table, section: Mapping[str, Any]) -> None:
    first = section["broken_replicas"][:1]
    why = f" (first: {first[0]['reason']})" if first else ""
    table.add_row("broken replicas", f"{section['broken']} of {section['replicas']}{why}")


def _head_row(table: Table, section: Mapping[str, Any]) -> None:
    if "energy_head_on_rollout" in section:
        head = section["energy_head_on_rollout"]
        table.add_row(
            "energy head − reference on frames",
            f"mean {head['mean_difference_eV']:+.4f} eV, std {head['std_difference_eV']:.4f} eV",
        )


def _facts(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", show_header=False)


def _number(value: float | None, digits: int = 4) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def _interval(low: float | None, high: float | None) -> str:
    return "—" if low is None or high is None else f"{low:.4f}–{high:.4f}"


def _with_error(row: Mapping[str, Any], prefix: str, what: str = "mean") -> str:
    value = _number(row[f"{prefix}{what}_angstrom"], 4)
    return f"{value} ± {_number(row[f'{prefix}{what}_error_angstrom'], 4)}"


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Bar on standard error; gives a function that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
