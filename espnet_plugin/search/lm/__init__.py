"""Language models of labels: ARPA n-grams, KenLM, ESPnet's neural ones, at word ends."""
