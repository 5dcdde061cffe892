"""Trajectories to be compared: read, checked, completed."""
