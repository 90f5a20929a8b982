"""What the data preparation of several recipes shares: Kaldi data directories and downloads.

Level 0: the standard library and NumPy only, so that preparing a corpus needs no torch.
"""
