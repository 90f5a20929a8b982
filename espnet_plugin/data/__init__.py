"""A user's data: Kaldi data directories, their checks, token lists and pronunciation lexica.

Level 3. Reading feature archives in formats other than plain matrices goes through omniio, which
ESPnet brings, and audio through soundfile; both are imported only when there is such data.
"""
