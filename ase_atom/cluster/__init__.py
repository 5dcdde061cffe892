"""Many jobs on many processes or computers, by Dask: for libraries and for reference data."""
