#!/bin/sh
# Two picoseconds of density functional dynamics become long sampling at their level.
# Run from this folder: sh dft_to_leaps.sh
set -e

# 1.5 ps of PBE/def2-SVP turn an operator for GFN2-xTB into one for PBE; 1 ps is held out.
ase-atom finetune ethanol-gfn2 data/ethanol-pbe.h5 --held-out 4 --steps 1200 \
    --output my-pbe.safetensors

# The new operator teaches leaps, which begin with those of its parent.
ase-atom leap-train my-pbe.safetensors ethanol.xyz --start ethanol-gfn2 --share 0.05 \
    --steps 200 --output my-pbe-leaps.safetensors

# Samples 4 ps apart, at the level of the density functional.
ase-atom run ethanol.xyz --operator my-pbe-leaps.safetensors --stride 4ps --time 400ps \
    --output my-samples.xtc --seed 1
