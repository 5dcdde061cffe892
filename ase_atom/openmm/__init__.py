"""Operators in OpenMM: an integrator that jumps, and a force for ordinary integrators.

`ATOMIntegrator` is a `openmm.CustomIntegrator` that works with one `openmm.PythonForce`:

- `program`: what the integrator computes in each step, and the parameters both share;
- `jumps`: the callback of the force, which makes the jumps;
- `checks`: what is refused before anything is built;
- `molecule`: what is served, its checks by positions, and the bonds by which OpenMM knows it;
- `quantities`: numbers with OpenMM's units, and the settings that they make;
- `plan`: how jumps are made;
- `restart`: settings that travel with states, and what holds after one was loaded;
- `potential`: the operator's energy as a force, `ATOMForce`;
- `source`: operators that travel in serialised Systems by name and checksum;
- `ml`, `ml_potential`: what openmmml finds under the name ``ase-atom``, and makes of it.
"""

from ase_atom.openmm.integrator import ATOMIntegrator
from ase_atom.openmm.potential import ATOMForce

__all__ = ["ATOMForce", "ATOMIntegrator"]
