"""Product quantisation of a teacher's frames (Jégou et al. 2011; arXiv 2211.00508 for its use).

A frame [D] is cut into `books` parts of D / books numbers, and each part becomes the number of the
nearest of `codes` centroids, found by k-means.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

MOST_CODES = 256  # a byte each


def fit(frames: Tensor, books: int, codes: int, seed: int, iterations: int = 20) -> Tensor:
    """Centroids [books, codes, D / books] of frames [N, D].

    Raises:
        ValueError: sizes do not divide, or there are fewer frames than codes.
    """
    count, size = frames.shape
    if books < 1 or size % books or not 2 <= codes <= MOST_CODES:
        raise ValueError(
            f"{books} books must divide frames of {size} numbers, and codes be 2 to {MOST_CODES}, "
            f"got {codes}"
        )
    if count < codes:
        raise ValueError(f"{count} frames cannot make {codes} codes; give more data or fewer codes")
    parts = frames.double().view(count, books, -1).cpu().numpy()
    centroids = [
        kmeans2(
            parts[:, book], codes, iter=iterations, minit="++",
            rng=np.random.default_rng([seed, book]), missing="warn",
        )[0]
        for book in range(books)
    ]  # fmt: skip
    return torch.from_numpy(np.stack(centroids)).float()


def quantise(frames: Tensor, centroids: Tensor) -> Tensor:
    """Codes [..., books] of frames [..., D], the nearest of centroids [books, codes, D / books]."""
    books, _, part = centroids.shape
    flat = frames.to(centroids).reshape(-1, books, part).transpose(0, 1)  # [books, N, D / books]
    nearest = torch.cdist(flat, centroids).argmin(-1)  # [books, N]
    return nearest.T.reshape(*frames.shape[:-1], books)
