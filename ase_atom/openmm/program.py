"""What the integrator computes in every step, in the language of `openmm.CustomIntegrator`.

A `PythonForce` sees positions and global parameters, and no velocities. So the integrator says by
a parameter, the phase, what it asks for, and lends the positions to the velocities where the
callback must see those. The force's answers are shifts of positions and velocities from the start
of the jump under way, which the integrator keeps. Together with the parameters, which hold the
jump's random number, that start determines the jump: a checkpoint holds all of it, and the callback
keeps only what it can compute again.
"""

from __future__ import annotations

from enum import IntEnum

import openmm

from ase_atom.openmm.restart import MARK, RESTART, Record, mark_of


class Phase(IntEnum):
    """What an evaluation of the force means."""

    CATCH_UP = -1
    """This minus the number of a frame that was passed over: answer as to `POSITIONS`, whatever
    went wrong since."""

    ENERGY = 0
    """Energy and forces for whoever asks; raises what went wrong in the step."""

    START = 1
    """The positions are the velocities at the jump's start: remember them."""

    VELOCITIES = 2
    """Answer with the velocities' shift in the frame whose positions were asked for last."""

    POSITIONS = 3
    """This plus the number of the frame in the stride, counted from 0: answer with the positions'
    shift and an `Answer`. The positions may be the jump's start."""


class Answer(IntEnum):
    """The energy that the force answers with in `Phase.POSITIONS`."""

    FAILED = -1
    NEEDS_START = 0
    READY = 1
    """This plus the number of the stride's first frame that the guard calls broken."""


class Change(IntEnum):
    """How a jump began."""

    NONE = 0
    """On the path of the jump before."""

    OUTSIDE = 1
    """Where positions or velocities were set from outside."""

    LOADED = 2
    """As `OUTSIDE`, and with other settings than the state that was loaded was written with, of
    which nobody has told the user."""


PHASE = "atom_phase"
FIRST = "atom_first"
"""The jump's first frame: above 0 if positions or velocities were changed inside the stride."""
NUMBER = "atom_number"
"""The stride's number in the run, from 0."""
CHANGED = "atom_changed"
"""How the jump began, see `Change`."""
SEED = "atom_seed"
"""The jump's random number, a whole one of 52 bits."""
TEMPERATURE = "atom_temperature"
"""Of the thermostat during this jump, K; 0 without one."""
LABEL = "atom_label"
"""A sum of all that determines the jump with random weights, which tells it from any other."""

REMARK = "ATOMIntegrator_wrote_this_state_copy_its_positions_and_velocities"
"""Means nothing. OpenMM complains of this name where another integrator's Context is given our
states, for it is the first in the alphabet."""

FRAME = "frame"
"""The integrator's own count of the stride's frames that are done."""

AHEAD = "ahead"
"""The integrator's own count of steps that `ATOMIntegrator.step` takes after the one under way."""

TARGET = "temperature"
"""The integrator's own variable, which `TEMPERATURE` follows at the start of each jump."""

TOLERANCE = 1e-10
"""Relative difference up to which positions and velocities are those that the last step left.

Mixed precision keeps positions to about 1e-15.
"""

MOST_LENT = 4
"""Lendings of positions to velocities in one jump that leave later noise as it is.

Three checkpoints, each taken inside the jump after the one before was loaded, and no more.
"""

NOT_FINITE = 1e30
"""What the callback is shown, in nm or nm/ps, for a number that is not finite.

The CPU platform evaluates no force where a position is NaN, and could not say which atom's.
"""


def parameters() -> dict[str, float]:
    """Return the force's global parameters and their values in a new Context."""
    names = (REMARK, PHASE, FIRST, CHANGED, SEED, TEMPERATURE, LABEL)
    return dict.fromkeys(names, 0.0) | {NUMBER: -1.0}


def write_program(
    integrator: openmm.CustomIntegrator,
    frames: int,
    group: int,
    temperature: float,
    record: Record,
) -> None:
    """Add the variables and computations of one step.

    Parameters
    ----------
    integrator
        Without any yet.
    frames
        Frames of a stride.
    group
        The force group that holds nothing but the callback's force.
    temperature
        K; 0 without a thermostat.
    record
        All other settings.
    """
    shift, answer = f"f{group}", f"energy{group}"
    for name in ("x_start", "v_start", "x_left", "v_left", "x_shift"):
        integrator.addPerDofVariable(name, 0.0)
    integrator.addGlobalVariable(TARGET, temperature)
    integrator.addGlobalVariable(FRAME, frames)  # so the first step begins a stride
    for name in (
        "changed",
        "due",
        "lent",
        "weighted",
        "answer",
        "loaded",
        AHEAD,
        "safe",
        "passed",
        "late",
    ):
        integrator.addGlobalVariable(name, 0.0)
    _begin_anew_after_other_settings(integrator, frames, temperature, record)

    # A jump begins on the grid, or where the last step's end was changed. A comparison with NaN
    # is false, so that a NaN counts as a change.
    same = "step({tol}*(1+abs({a}))-abs({a}-{b}))"
    same_x = same.format(tol=TOLERANCE, a="x", b="x_left")
    same_v = same.format(tol=TOLERANCE, a="v", b="v_left")
    integrator.addComputeSum("changed", f"2-{same_x}-{same_v}")
    integrator.addComputeGlobal("due", f"max(step({FRAME}-{frames}),step(changed-1))")
    integrator.beginIfBlock("due > 0")
    _make_up_for_lending(integrator)
    integrator.addComputeGlobal(NUMBER, f"{NUMBER}+step({FRAME}-{frames})")
    integrator.addComputeGlobal(FRAME, f"select(step({FRAME}-{frames}),0,{FRAME})")
    integrator.addComputeGlobal(FIRST, FRAME)
    integrator.addComputeGlobal(CHANGED, "step(changed-1)+loaded")
    integrator.addComputeGlobal("loaded", "0")
    for ours, theirs in (("x_start", "x"), ("v_start", "v"), ("x_left", "x"), ("v_left", "v")):
        integrator.addComputePerDof(ours, theirs)
    integrator.addComputeGlobal(SEED, f"floor({2**26}*uniform)")
    integrator.addComputeGlobal(SEED, f"{2**26}*{SEED}+floor({2**26}*uniform)")
    integrator.addComputeGlobal(TEMPERATURE, TARGET)
    integrator.addComputeSum("weighted", "x*gaussian+v*uniform")
    integrator.addComputeGlobal(LABEL, f"weighted+({FIRST}+{NUMBER}+{TEMPERATURE})*uniform")
    integrator.addComputePerDof("x", _shown("x"))
    integrator.endBlock()

    # Nobody looks at a frame in the midst of the steps that were asked for: it is passed over,
    # unless a jump begins or ends there, or the guard calls it broken.
    inside = f"step({AHEAD}-1)*step({frames - 2}-{FRAME})*step(safe-1-{FRAME})"
    integrator.addComputeGlobal("late", "passed")
    integrator.addComputeGlobal("passed", f"select((1-due)*{inside},passed+1,0)")
    integrator.beginIfBlock("passed = 0")
    _evaluate(integrator, shift, answer)
    integrator.endBlock()
    integrator.beginIfBlock("passed > 0")
    _make_up_for_evaluation(integrator)
    integrator.endBlock()
    integrator.addComputeGlobal(AHEAD, f"max({AHEAD}-1,0)")
    integrator.addComputeGlobal(FRAME, f"{FRAME}+1")


def _evaluate(integrator: openmm.CustomIntegrator, shift: str, answer: str) -> None:
    """Move to the next frame."""
    # Nothing stands between answer and shift, so that OpenMM evaluates the force once for both.
    integrator.addComputeGlobal(PHASE, f"{Phase.POSITIONS:d}+{FRAME}")
    integrator.addComputeGlobal("answer", answer)
    integrator.addComputePerDof("x_shift", shift)
    integrator.beginIfBlock(f"answer = {Answer.NEEDS_START:d}")
    integrator.addComputePerDof("x", _shown("v_start"))
    integrator.addComputeGlobal(PHASE, f"{Phase.START:d}")
    integrator.addComputeGlobal("answer", answer)
    integrator.addComputePerDof("x", _shown("x_start"))
    integrator.addComputeGlobal(PHASE, f"{Phase.POSITIONS:d}+{FRAME}")
    integrator.addComputeGlobal("answer", answer)
    integrator.addComputePerDof("x_shift", shift)
    integrator.addComputeGlobal("lent", "lent+1")
    integrator.endBlock()

    # The callback raises its error in this phase only, so that who catches it finds the Context
    # with the last good frame and in its normal phase.
    integrator.beginIfBlock("answer < 0")
    integrator.addComputePerDof("x", "x_left")
    integrator.beginIfBlock("late > 0")
    integrator.addComputeGlobal(PHASE, f"{Phase.CATCH_UP:d}-({FRAME}-1)")
    integrator.addComputeGlobal("answer", answer)
    integrator.addComputePerDof("x_shift", shift)
    _take_frame(integrator, shift)
    integrator.endBlock()
    integrator.addComputeGlobal(AHEAD, "0")
    integrator.addComputeGlobal(PHASE, f"{Phase.ENERGY:d}")
    integrator.addComputeGlobal("answer", answer)
    integrator.endBlock()

    integrator.addComputeGlobal("safe", f"answer-{Answer.READY:d}")
    _take_frame(integrator, shift)
    integrator.addComputeGlobal(PHASE, f"{Phase.ENERGY:d}")


def _take_frame(integrator: openmm.CustomIntegrator, shift: str) -> None:
    """Move to the frame whose shift of the positions is there."""
    integrator.addComputePerDof("x", "x_start+x_shift")
    integrator.addComputeGlobal(PHASE, f"{Phase.VELOCITIES:d}")
    integrator.addComputePerDof("v", f"v_start+{shift}")
    integrator.addComputePerDof("x_left", "x")
    integrator.addComputePerDof("v_left", "v")


def _make_up_for_evaluation(integrator: openmm.CustomIntegrator) -> None:
    """Draw the random numbers of `_evaluate`, so that noise does not depend on who looks when."""
    for _ in range(5):
        integrator.addComputePerDof("x_shift", "x_shift")
    for _ in range(5):
        integrator.addComputeGlobal("answer", "answer")
    for _ in range(2):
        integrator.beginIfBlock("answer < 0")
        integrator.endBlock()


def _begin_anew_after_other_settings(
    integrator: openmm.CustomIntegrator, frames: int, temperature: float, record: Record
) -> None:
    """Begin a new grid where a state was loaded that other settings belong to; ours hold.

    `ATOMIntegrator` has looked before the step. An integrator that was read from XML has only this.
    """
    mark = mark_of(record, temperature)
    for name, value in record.items():
        integrator.addGlobalVariable(name, value)
    integrator.addGlobalVariable(MARK, mark)
    integrator.beginIfBlock(f"{MARK} != {mark:.0f}")
    integrator.addComputeGlobal("loaded", f"select({MARK}-{RESTART:.0f},1,0)")
    integrator.addComputeGlobal(TARGET, f"select(loaded,{temperature!r},{TARGET})")
    for name, value in record.items():
        integrator.addComputeGlobal(name, repr(value))
    integrator.addComputeGlobal(MARK, f"{mark:.0f}")
    integrator.addComputeGlobal(FRAME, f"{frames}")
    integrator.addComputeGlobal("lent", f"{MOST_LENT}")
    integrator.addComputePerDof("x_left", "x+1")
    integrator.endBlock()


def _make_up_for_lending(integrator: openmm.CustomIntegrator) -> None:
    """Bring OpenMM's generator to where it is after `MOST_LENT` lendings in the jump before.

    On the Reference platform every computation draws random numbers, whether it uses them or not.
    Positions are lent at the start of a jump, and once more inside it after a checkpoint was
    loaded; that must not change the noise of later jumps. So idle computations, as many as a
    lending has (a loop's condition counts as one), stand in for those that were not made.
    """
    integrator.beginWhileBlock(f"lent < {MOST_LENT}")
    for _ in range(3):
        integrator.addComputePerDof("x_shift", "x_shift")
    for _ in range(3):
        integrator.addComputeGlobal("answer", "answer")
    integrator.addComputeGlobal("lent", "lent+1")
    integrator.endBlock()
    integrator.addComputeGlobal("lent", "0")


def _shown(name: str) -> str:
    """Return a variable's value, or `NOT_FINITE` for NaN and infinity."""
    return f"select(step({NOT_FINITE:g}-abs({name})),{name},{NOT_FINITE:g})"
