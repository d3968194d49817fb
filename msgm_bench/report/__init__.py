"""What a run leaves: the run folder, its pictures, its provenance, and exports."""
