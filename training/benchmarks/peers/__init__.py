"""Peers that operators are compared with, from their papers' formulas."""

from training.benchmarks.peers.egnn import EGNN
from training.benchmarks.peers.egno import EGNO

__all__ = ["EGNN", "EGNO"]
