"""Leaps: a decoder that draws a molecule's state after picoseconds, and knows no path to it."""

from ase_atom.operator.leap.card import LeapCard
from ase_atom.operator.leap.config import LeapConfig
from ase_atom.operator.leap.decoder import LeapDecoder
from ase_atom.operator.leap.network import LeapNetwork

__all__ = ["LeapCard", "LeapConfig", "LeapDecoder", "LeapNetwork"]
