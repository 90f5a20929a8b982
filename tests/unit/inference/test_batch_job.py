"""Output tables of a job that was killed: whole batches stay, half ones go."""

from __future__ import annotations

import pytest

from espnet_plugin.inference.batch_job import ResumableTables, in_batches, read_keys


def tables(folder, batches):
    return ResumableTables(folder, ("text", "sub/score"), batches)


def test_resume_keeps_whole_batches_only(tmp_path):
    batches = in_batches(["a", "b", "c", "d", "e"], 2)
    job = tables(tmp_path, batches)
    job.write("a", "A", 1)
    job.skip("b", "too short")
    job.write("c", "C", 3)
    job.flush()
    with (tmp_path / "text").open("a") as file:
        file.write("d half a li")  # killed while writing
    again = tables(tmp_path, batches)
    assert again.finished == 1
    for utt in "cde":
        again.write(utt, utt.upper(), 0)
    again.close()
    assert (tmp_path / "text").read_text() == "a A\nc C\nd D\ne E\n"
    assert (tmp_path / "sub/score").read_text() == "a 1\nc 0\nd 0\ne 0\n"
    assert (tmp_path / "skipped").read_text() == "b too short\n"
    assert tables(tmp_path, batches).finished == 3


def test_lines_end_where_we_ended_them(tmp_path):
    job = tables(tmp_path, [["a"], ["b"]])
    job.write("a", "one\x85line\u2028of\x0cwords", 1)
    job.write("b", "Bär", 2)
    job.close()
    content = (tmp_path / "text").read_bytes()
    (tmp_path / "text").write_bytes(content[:-3])  # killed within the "ä"
    again = tables(tmp_path, [["a"], ["b"]])
    assert again.finished == 1
    again.write("b", "Bär", 2)
    again.close()
    assert (tmp_path / "text").read_bytes() == content


def test_batches_and_keys_are_checked(tmp_path):
    with pytest.raises(ValueError, match="batch_size"):
        in_batches(["a"], 0)
    (tmp_path / "keys").write_text("")
    with pytest.raises(ValueError, match="no utterance"):
        read_keys(tmp_path / "keys")


def test_the_score_of_an_alignment_is_its_log_posterior():
    import torch

    from espnet_plugin.jobs.align import path_score

    log_probs = torch.randn(2, 4, 3).log_softmax(-1)
    alignment = torch.tensor([[0, 1, 0, 2], [1, 0, 0, 0]])
    lengths, inner = torch.tensor([4, 2]), torch.tensor([1.0, -torch.inf])
    score = path_score(log_probs, alignment, lengths, inner)
    expected = sum(log_probs[0, t, v] for t, v in enumerate([0, 1, 0, 2]))
    torch.testing.assert_close(score[0], expected)
    assert score[1] == -torch.inf
