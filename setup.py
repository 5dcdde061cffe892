"""What setup.cfg cannot say: the folder training/ is installed as ase_atom.training."""

from setuptools import find_packages, setup

training = ["training", *(f"training.{name}" for name in find_packages("training"))]
setup(
    packages=[*find_packages(include=["ase_atom*"]), *(f"ase_atom.{name}" for name in training)],
    package_dir={"ase_atom.training": "training"},
)
