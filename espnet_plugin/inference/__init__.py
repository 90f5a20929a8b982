"""A trained model applied to speech: batches, searchers, LMs, words (L5)."""
