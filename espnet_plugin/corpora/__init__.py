"""What the corpora's preparations share: Kaldi folders, downloads, audio formats (L0).

The standard library and NumPy only, so that preparing a corpus needs no torch.
"""
