"""Command lines (L6): thin, one a file, each also `espnet-progressive NAME`."""
