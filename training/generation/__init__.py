"""Reference trajectories made by molecular dynamics, of one molecule or of collections."""
