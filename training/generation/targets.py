"""The files of one molecule's bursts while they are made and after."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ase_atom.errors import ConfigError, DataError
from ase_atom.files import replace_text
from training.data.molecules import Molecule
from training.data.store import file_attributes, keys, merge, read_burst
from training.engines.factory import get_engine, recorded_options
from training.generation.dynamics import Settings


class Target:
    """One molecule's files in the data folder."""

    def __init__(self, folder: Path, molecule: Molecule, settings: Settings) -> None:
        self.molecule = molecule
        self.engine_version = get_engine(settings.engine, settings.engine_options).version
        self.thermal_version = None
        if settings.thermal_engine is not None:
            self.thermal_version = get_engine(settings.thermal_engine).version
        self.settings = settings
        self.merged = folder / f"{molecule.name}.h5"
        self.parts = folder / f"{molecule.name}.bursts"
        self.lock = folder / f".{molecule.name}.lock"
        self.record = self.parts / "settings.json"

    def key(self, index: int) -> str:
        """Return the key of a burst."""
        return f"{self.molecule.name}/{index:05d}"

    def part(self, index: int) -> Path:
        """Return the file of a single burst."""
        return self.parts / f"{index:05d}.h5"

    def provenance(self) -> dict[str, Any]:
        """Return all that must be the same for bursts to lie in one file."""
        known = json.loads(self.settings.model_dump_json())
        known["engine_options"] = recorded_options(
            self.settings.engine, self.settings.engine_options
        )
        known |= {"smiles": self.molecule.smiles, "engine_version": self.engine_version}
        if self.thermal_version is not None:
            known["thermal_engine_version"] = self.thermal_version
        if self.molecule.structures is not None:
            known["structures"] = self.molecule.structures_checksum()
        return known

    def check_unchanged(self) -> None:
        """Check that bursts already there were made with the same settings.

        A setting that a record lacks is younger than it and had its default.

        Raises
        ------
        ConfigError
            Naming every setting that differs.
        """
        recorded = []
        if self.merged.exists():
            recorded.append((self.merged, file_attributes(self.merged).get("settings", "{}")))
        if self.record.exists():
            recorded.append((self.parts, self.record.read_text()))
        current = self.provenance()
        defaults = json.loads(Settings().model_dump_json())
        for path, text in recorded:
            previous = defaults | json.loads(text)
            differing = [
                f"{name} was {previous.get(name)!r} and is now {current.get(name)!r}"
                for name in sorted(current.keys() | previous.keys())
                if current.get(name) != previous.get(name)
            ]
            if differing:
                raise ConfigError(
                    f"{path} holds bursts made with other settings ({'; '.join(differing)}): "
                    "give another --name, or remove it"
                )

    def missing(self, bursts: int) -> list[int]:
        """Return the indices of the bursts to make; damaged part files count as missing."""
        present = set(keys(self.merged)) if self.merged.exists() else set()
        return [
            index
            for index in range(bursts)
            if self.key(index) not in present and not self._is_sound(index)
        ]

    def clean(self) -> None:
        """Remove what a killed run left half written."""
        for leftover in self.merged.parent.glob(f".{self.merged.name}.*.tmp"):
            leftover.unlink()
        for leftover in self.parts.glob(".*.tmp"):
            leftover.unlink()

    def prepare(self) -> None:
        """Make the folder of parts, with the settings recorded."""
        self.parts.mkdir(parents=True, exist_ok=True)
        replace_text(self.record, json.dumps(self.provenance(), indent=2) + "\n")

    def finish(self) -> bool:
        """Merge the parts into the file; say whether there is one now."""
        for path in self.parts.glob("[!.]*.h5"):
            if not self._is_sound(int(path.stem)):
                path.unlink()
        sources = [self.merged] if self.merged.exists() else []
        parts = sorted(self.parts.glob("[!.]*.h5"))
        if parts:
            settings = json.dumps(self.provenance())
            merge(self.merged, [*sources, *parts], {"settings": settings})
        if self.parts.exists():
            shutil.rmtree(self.parts)
        return self.merged.exists()

    def _is_sound(self, index: int) -> bool:
        try:
            read_burst(self.part(index), self.key(index))
        except DataError:
            return False
        return True
