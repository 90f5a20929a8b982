"""The ESPnet model and what plugs into it (L4)."""
