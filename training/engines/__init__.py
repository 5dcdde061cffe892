"""What makes reference energies and forces."""
