"""i-PI with an operator's jumps of 16 fs in the place of its integrator, in one process.

Needs ``pip install ipi`` beside ase-atom. i-PI keeps time, writes its outputs and its restart file.
"""

import torch
from ipi.scripting import InteractiveSimulation
from ipi.utils.depend import dstrip
from ipi.utils.units import unit_to_user

from ase_atom import Langevin, load_operator
from ase_atom.propagation import Step, advance
from ase_atom.state import PhaseState

STRIDE = 16.0  # fs
BOHR = unit_to_user("length", "angstrom", 1.0)  # in Å
SPEED = BOHR / unit_to_user("time", "femtosecond", 1.0)  # atomic unit of velocity in Å/fs

INPUT = """
<simulation verbosity='low'>
  <output prefix='jumps'>
    <properties filename='out' stride='10'>
      [ step, time{picosecond}, temperature{kelvin} ]
    </properties>
    <trajectory filename='pos' stride='10' format='xyz'> positions{angstrom} </trajectory>
  </output>
  <prng><seed>1</seed></prng>
  <ffdirect name='none'><pes>dummy</pes><parameters>{}</parameters></ffdirect>
  <system>
    <initialize nbeads='1'>
      <file mode='ase'> ../ethanol.xyz </file>
      <cell mode='abc' units='angstrom'> [50.0, 50.0, 50.0] </cell>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces><force forcefield='none'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 16 </timestep> </dynamics>
    </motion>
    <ensemble><temperature units='kelvin'> 300 </temperature></ensemble>
  </system>
</simulation>
"""

operator = load_operator("ethanol-gfn2", engine="auto")
ensemble = Langevin(temperature_K=300.0, friction=0.01)


def jump(motion, step=None):
    """Move i-PI's one bead by a jump between two halves of the thermostat."""
    beads = motion.beads
    q, p, masses = (dstrip(each) for each in (beads.q, beads.p, beads.m3))
    state = start.replace(
        positions=torch.tensor(q.reshape(1, -1, 3) * BOHR),
        velocities=torch.tensor((p / masses).reshape(1, -1, 3) * SPEED),
    )

    def noise(shape):
        return torch.tensor(motion.prng.gvec(tuple(shape)))

    plan = Step(STRIDE, noise, operator.energy)
    x, v = advance(operator, ensemble, state, torch.tensor([STRIDE]), plan)
    beads.q[0] = x[0, -1].numpy().ravel() / BOHR
    beads.p[0] = v[0, -1].numpy().ravel() / SPEED * masses[0]
    motion.ensemble.time += motion.dt


simulation = InteractiveSimulation(INPUT)
start = PhaseState.from_atoms([simulation.get_structures()])
simulation.set_motion_step(jump)
simulation.run(625)  # 10 ps
