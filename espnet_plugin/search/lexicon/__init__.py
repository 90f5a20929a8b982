"""Search over the words of a lexicon: prefix tree, word models, look-ahead."""
