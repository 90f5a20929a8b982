"""A user's data: Kaldi folders, their checks, token lists, pronunciation lexica (L3).

Reading feature archives in formats other than plain matrices goes through omniio, which
ESPnet brings, and audio through soundfile; both are imported only when there is such data.
"""
