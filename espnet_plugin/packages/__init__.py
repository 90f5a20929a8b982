"""Packed models: archive, contents, where they come from, how they are read (L3)."""
