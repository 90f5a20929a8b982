"""The label-level search as compiled loops (numba): one utterance after the other, on a CPU.

Nothing here is imported before a search is to be compiled; `engine.py` decides that.
"""
