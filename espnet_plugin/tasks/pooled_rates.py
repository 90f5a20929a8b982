"""Error rates of a whole validation set from statistics that ESPnet averages batch by batch."""

from __future__ import annotations

from espnet2.train.reporter import SubReporter, aggregate, to_reported_value

RATES = ("cer", "wer")


def pool_error_rates(reporter: SubReporter) -> None:
    """Put errors over references in the place of the average of batches' error rates.

    The model reports errors and references per unit of a batch's weight. Averaged by these weights,
    over batches and over processes, both are sums over the set divided by the same number.

    Args:
        reporter: of a finished validation; `<rate>_errors` and `<rate>_references` are taken out.
    """
    for rate in RATES:
        errors = reporter.stats.pop(f"{rate}_errors", None)
        references = reporter.stats.pop(f"{rate}_references", None)
        if errors and references:
            share = float(aggregate(errors)) / max(float(aggregate(references)), 1e-12)
            reporter.stats[rate] = [to_reported_value(100.0 * share)]
