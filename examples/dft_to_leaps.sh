#!/bin/sh
# Two picoseconds of density functional dynamics become long sampling at their level.
# Run from this folder, in the repository: sh dft_to_leaps.sh
set -e
export PYTHONPATH=..

# 1.5 ps of PBE/def2-SVP turn an operator for GFN2-xTB into one for PBE; 1 ps is held out.
python -m training.finetune ethanol-gfn2 data/ethanol-pbe.h5 --held-out 4 --steps 1200 \
    --threads 1 --output my-pbe.safetensors

# The new operator teaches leaps, which begin with those of its parent.
python -m training.leap my-pbe.safetensors ethanol.xyz --start ethanol-gfn2 --share 0.25 \
    --steps 1000 --output my-pbe-leaps.safetensors

# Samples 4 ps apart, at the level of the density functional.
ase-atom run ethanol.xyz --operator my-pbe-leaps.safetensors --stride 4ps --time 10ns \
    --output my-samples.xtc --log my-samples.csv
