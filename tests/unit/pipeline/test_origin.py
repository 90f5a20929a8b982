"""The mark of what a folder of results was made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espnet_plugin.pipeline.state.origin import FILE, OtherOrigin, origin_of, require_origin


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    path.write_text("parameters")
    return path


def test_an_empty_folder_takes_any_origin_and_a_used_one_its_own(
    tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "out"
    first = origin_of({"beam_size": 4, "ngpu": 0, "lexicon": None}, {"model_file": model})
    require_origin(out, first, ["text"])
    second = {**first, "beam_size": 8}
    require_origin(out, second, ["text"])  # nothing is there yet
    (out / "text").write_text("u1 A\n")
    require_origin(out, second, ["text"])
    with pytest.raises(OtherOrigin, match=r"made with beam_size 8, not 4\. They are not mixed"):
        require_origin(out, first, ["text"])
    assert json.loads((out / FILE).read_text())["beam_size"] == 8


def test_files_count_by_content_wherever_they_lie(tmp_path: Path, model: Path) -> None:
    out, copy = tmp_path / "out", tmp_path / "copy.pth"
    require_origin(out, origin_of({}, {"model_file": model}), ["text"])
    (out / "text").write_text("u1 A\n")
    copy.write_text("parameters")
    require_origin(out, origin_of({}, {"model_file": copy}), ["text"])
    copy.write_text("parameters of an epoch more")
    with pytest.raises(OtherOrigin, match=rf"model_file {model} \(\w+\), not {copy} \(\w+\)"):
        require_origin(out, origin_of({}, {"model_file": copy}), ["text"])


def test_a_device_makes_no_other_result(tmp_path: Path, model: Path) -> None:
    one, other = ({"ngpu": n, "num_workers": n, "output_dir": tmp_path / str(n)} for n in (0, 1))
    assert origin_of(one, {"m": model}) == origin_of(other, {"m": model})


@pytest.mark.parametrize("mark", [None, "{", "[]"])
def test_results_without_a_mark_are_not_added_to(
    tmp_path: Path, model: Path, mark: str | None
) -> None:
    (tmp_path / "text").write_text("u1 A\n")
    if mark is not None:
        (tmp_path / FILE).write_text(mark)
    with pytest.raises(OtherOrigin, match=f"left no {FILE}"):
        require_origin(tmp_path, origin_of({}, {"model_file": model}), ["text"])
