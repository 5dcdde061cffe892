"""Kohn-Sham theory along a path: PySCF's integrals and functionals, made fast for dynamics."""
