"""Progressive training of neural transducers inside ESPnet (Zhou et al., Interspeech 2022)."""

__version__ = "0.1.0"
