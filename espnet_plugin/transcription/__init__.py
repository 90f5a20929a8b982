"""From audio files to transcripts: reading, cutting, joining, writing (L3).

Nothing here knows a model: the recogniser is a function from pieces of audio to words with times.
"""
