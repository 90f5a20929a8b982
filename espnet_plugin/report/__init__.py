"""The report of a pipeline: curves, alignments, wall-clock, error rates (L3)."""
