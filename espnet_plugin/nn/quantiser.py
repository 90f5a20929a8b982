"""Quantisers: frames become numbers of codes.

Product quantisation of a teacher's frames (Jégou et al. 2011; arXiv 2211.00508 for its use): a
frame [D] is cut into `books` parts of D / books numbers, and each part becomes the number of the
nearest of `codes` centroids, found by k-means.

Random projection of features (BEST-RQ, arXiv 2202.01855): nothing is learned; in each book

    code(x) = argmin_j || c_j / |c_j| - A x / |A x| ||

with A from Xavier's distribution and codes c_j from a normal one, both drawn once from a seed.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

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


class RandomQuantiser(nn.Module):
    """Random projection and code books; a function of its arguments, in no state dict.

    Args:
        size: numbers of a frame.
        books: independent projections, each with its code book.
        codes: of a book.
        dim: numbers of a code.
        seed: of the draws.
    """

    projections: Tensor
    code_books: Tensor

    def __init__(self, size: int, books: int, codes: int, dim: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        projections = torch.empty(books, size, dim)
        for projection in projections:
            nn.init.xavier_uniform_(projection, generator=generator)
        drawn = torch.randn(books, codes, dim, generator=generator)
        self.register_buffer("projections", projections, persistent=False)
        self.register_buffer("code_books", nn.functional.normalize(drawn, dim=-1), persistent=False)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Frames [N, size] -> codes [N, books]."""
        with torch.autocast(frames.device.type, enabled=False):  # one label in every precision
            projected = torch.einsum("ns,bsd->bnd", frames.float(), self.projections)
            directions = nn.functional.normalize(projected, dim=-1)  # [books, N, dim]
            # of vectors of length 1 the nearest has the largest product
            codes: Tensor = (directions @ self.code_books.mT).argmax(-1)  # [books, N]
            return codes.transpose(0, 1)


def perplexity(counts: Tensor) -> Tensor:
    """How many codes are in use, counted by their entropy: counts [..., codes] -> [...]."""
    shares = counts / counts.sum(-1, keepdim=True).clamp(min=1e-12)
    entropy: Tensor = torch.special.entr(shares).sum(-1)
    return entropy.exp()
