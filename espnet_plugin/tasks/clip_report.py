"""Gradient clipping that hits most updates is no safety net any more; say so, once an epoch."""

from __future__ import annotations

import logging

from espnet2.train.reporter import SubReporter, aggregate

#: Share of an epoch's updates in per cent.
TOO_MANY = 50.0


def report_clipping(reporter: SubReporter, grad_clip: float) -> float | None:
    """Log the share of an epoch's updates whose gradient was clipped; warn above a half.

    Args:
        reporter: of an epoch of training, not yet finished; ESPnet has registered ``clip``, 100
            for every update whose norm was above `grad_clip` and 0 for the others.
        grad_clip: the largest norm, the configuration's.

    Returns:
        The share in per cent, or None where nothing was registered (no update was finite).
    """
    values = reporter.stats.get("clip")
    if not values:
        return None
    share = float(aggregate(values))
    if share > TOO_MANY:
        logging.warning(
            "%depoch: %.0f %% of the updates were clipped to a gradient norm of %g: their size "
            "says nothing any more, and the learning rate alone decides; raise grad_clip, or "
            "divide the loss by something larger (loss_conf: {normalization: frames})",
            reporter.get_epoch(),
            share,
            grad_clip,
        )
    else:
        logging.info("%depoch: %.1f %% of the updates were clipped", reporter.get_epoch(), share)
    return share
