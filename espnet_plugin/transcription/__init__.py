"""From audio files to transcripts: reading, cutting long recordings, joining, writing.

Nothing here knows a model: the recogniser is a function from pieces of audio to words with times.
"""
