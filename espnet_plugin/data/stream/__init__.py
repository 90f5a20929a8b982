"""Training data from a running program: records through a pipe, nothing on disk (docs/data.md)."""
