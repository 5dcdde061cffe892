"""Inference by ONNX Runtime: the operator's network as a graph, without torch in between."""

from ase_atom.operator.engine.network import Network

__all__ = ["Network"]
