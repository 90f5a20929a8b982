"""Module names of 0.1.0: each still imports, and runs with ``python -m``, as what it has become.

A finder at the head of `sys.meta_path` knows them. It gives the module of the new name itself, no
copy: classes stay the same objects under both names. (Behind Python's own finder it would come too
late: `stages` is `pipeline`, in whose folder that finder would look for `stages.plan`.)
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

_PACKAGE = "espnet_plugin."
#: (old package, new package): the modules that moved and kept their names.
_MOVED = {
    ("bin", "jobs"): (
        "align nbest asr_train lm_train collect_stats make_tokens format_data "
        "perturb_speed step_probe check_config check_sets decode_stages score_hub5 "
        "train_ngram train_lm preload preload_client run_many "
    ),
    ("bin", "pipeline.launch"): ("console "),
    ("tasks", "inference"): (
        "batch_job decode_job search_options searchers language_models text_output "
        "word_recogniser word_times "
    ),
    ("stages", "pipeline.plan"): ("config scheduler budget inputs options "),
    ("stages", "pipeline.state"): ("state fingerprint lock progress quality freshness "),
    ("stages", "pipeline.launch"): ("jobs job_backends process commands "),
    ("stages", "pipeline.steps"): ("training data_jobs statistics lm_training variants "),
    ("stages", "pipeline"): ("pipeline decoding tuning status "),
    ("planning", "pipeline.state"): ("reference_system "),
    ("search", "search.beam"): (
        "beam_options beam_state expansion greedy history packed_frames "
        "prediction_cache recombine scorer_set scorers state internal_lm "
    ),
    ("search", "search.align"): ("forced_align realign exact_times alignment_quality "),
    ("search", "search.lm"): ("arpa ngram kenlm_model lm_adapter word_end "),
    ("search", "search.lexicon"): ("lexicon_search prefix_tree word_lm word_mixture "),
    ("losses", "losses.engines"): (
        "engine grid rows triton_rows triton_hidden hidden_layer joint_inputs "
        "packed_joint dropout_mask chunk_threads fused_function "
    ),
    ("publishing", "packages"): (
        "archive bounded_zip cache contents elsewhere inspection loading package "
        "plain_yaml portable references sources subwords view weights "
    ),
    ("data", "data.check"): ("measure measure_all "),
    ("data", "scoring"): ("phoneme_words "),
}
#: Modules and packages that got another name.
_RENAMED = {
    "bin.asr_inference": "inference.speech2text",
    "bin.pipeline_options": "pipeline.plan.command_line",
    "stages.plan": "pipeline.plan.stage_plan",
    "data.check_labels": "data.check.labels",
    "data.check_tables": "data.check.tables",
    "schedules.curves": "nn.rate_curves",
    "stages": "pipeline",
    "schedules": "nn.rate_curves",
}
NEW_NAMES = {
    f"{old}.{name}": f"{new}.{name}"
    for (old, new), names in _MOVED.items()
    for name in names.split()
} | _RENAMED


class _KeepsNames(ModuleType):
    """A package in which an import under an old name replaces nothing of the same name.

    The import system makes every module an attribute of its parent: `search.lexicon_search`, a
    function, would become the module of that name, and `pipeline.state` what is `stages.state`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        own = f"{self.__name__}.{name}"
        if name in vars(self) and isinstance(value, ModuleType) and value.__name__ != own:
            return
        super().__setattr__(name, value)


class _AliasLoader(importlib.abc.InspectLoader):
    """Loads a module by giving the one of the new name."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        parent, _, child = module.__spec__.name.rpartition(".")
        module.__spec__ = self._spec  # the import system has put the old name's there
        package = sys.modules[parent]
        if child in vars(package):
            package.__class__ = _KeepsNames

    def get_code(self, fullname: str) -> CodeType | None:
        """What ``python -m`` runs."""
        spec = importlib.util.find_spec(self._target)
        assert spec is not None and isinstance(spec.loader, importlib.abc.InspectLoader)
        return spec.loader.get_code(self._target)

    def get_source(self, fullname: str) -> str | None:
        return None


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Knows the old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        new = NEW_NAMES.get(fullname.removeprefix(_PACKAGE))
        if new is None or not fullname.startswith(_PACKAGE):
            return None
        found = importlib.util.find_spec(_PACKAGE + new)
        return importlib.machinery.ModuleSpec(
            fullname,
            _AliasLoader(_PACKAGE + new),
            origin=found.origin if found else None,  # `python -m` makes it sys.argv[0]
            is_package=fullname.removeprefix(_PACKAGE) in ("stages", "schedules"),
        )


def install() -> None:
    """Adds the finder, once."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AliasFinder())
