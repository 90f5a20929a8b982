"""Models out into the world and back: packages, their reading, packing and upload."""
