"""Training of leap decoders: the teacher's trajectories, pairs of structures, flow matching."""
