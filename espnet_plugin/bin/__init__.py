"""What people type, one command a file, each also `espnet-progressive NAME` (L6)."""
