"""Reference trajectories: what one is, on disk, divided, in memory; and tables of compounds."""
