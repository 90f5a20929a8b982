"""What is known on disk: state, fingerprints, freshness, lock, progress, quality."""
