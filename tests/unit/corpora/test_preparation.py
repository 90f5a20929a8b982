"""What a recipe's preparation says of what the user can cause, and of what the user cannot."""

from __future__ import annotations

import pytest

from espnet_plugin.corpora.preparation import run_preparation


def fails_with(error: Exception) -> None:
    raise error


def test_a_preparation_that_works_ends_in_status_0() -> None:
    done = []
    assert run_preparation(lambda: done.append("all")) == 0
    assert done == ["all"]


@pytest.mark.parametrize("error", [ValueError("a.wav: 8000 Hz"), OSError("disk: full")])
def test_what_the_user_can_cause_is_one_message(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_preparation(lambda: fails_with(error)) == 1
    (record,) = caplog.records
    assert record.getMessage() == str(error) and record.exc_info is None


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        run_preparation(lambda: fails_with(KeyError("speaker")))
