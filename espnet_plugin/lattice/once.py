"""Backward passes that are not differentiable themselves.

torch's ``once_differentiable`` notices a second derivative only where the incoming gradient
requires one, which that of a plain ``loss.mean()`` does not: the result would silently lack its
graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def only_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the ``backward`` of an autograd function.

    Raises:
        RuntimeError: when called, if gradients of the gradient were asked for (create_graph).
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the loss can be differentiated only once; call backward() or autograd.grad() "
                "without create_graph=True"
            )
        return backward(ctx, *grads)

    return checked
