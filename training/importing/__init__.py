"""Ab initio trajectories of other programs as reference bursts: read, checked, differentiated."""
