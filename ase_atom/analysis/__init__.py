"""Trajectories laid beside a reference: observables, statistics, verdicts, a report."""
