"""Programs that the pipeline's steps and the recipes start, one a file (L6)."""
