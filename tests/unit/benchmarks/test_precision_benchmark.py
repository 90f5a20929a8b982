"""benchmarks/precision.py: what it times."""

import pytest

from benchmarks import precision


def test_float32_steps_have_no_accelerator_and_all_others_are_in_bfloat16(monkeypatch):
    asked = {}

    def step_of(options, repeats, made_up):
        name = str(len(asked))
        asked[name] = options["accelerators"], made_up
        return lambda number: 1.0 if not options["accelerators"] else 0.5

    monkeypatch.setattr(precision, "step_of", step_of)
    seconds, over = precision.ratios("an4", "align", 3)
    assert seconds == 1.0
    assert over == {name: 1.0 if name == "float32" else 0.5 for name in precision.ARMS}
    assert asked["0"][0] == {}
    assert all("precision" in given for given, _ in list(asked.values())[1:])


@pytest.mark.parametrize("model", list(precision.MODELS))
def test_its_models_have_all_timed_stages(model):
    recipe, pipeline, made_up = precision.MODELS[model]
    folder = precision.ROOT / "egs2" / recipe / "asr1"
    stages = precision.stages_of(folder / "conf" / pipeline, folder)
    assert set(precision.STAGES) <= set(stages)
    audio = made_up.channels is None
    assert audio == (stages["align"].get("frontend") is not None)
