"""Alignments: forced, on lattices, exact times, and how good one is."""
