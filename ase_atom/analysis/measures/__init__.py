"""What is measured of a trajectory and its reference, a section of the report each."""
