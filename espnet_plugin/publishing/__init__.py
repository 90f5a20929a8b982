"""Packed models out into the world: model card and upload (L3)."""
