"""Search: alignments, decoding, language-model fusion (L2, plain torch)."""

from espnet_plugin.search.align.alignment_quality import AlignmentQuality, alignment_quality
from espnet_plugin.search.align.entries import label_frames
from espnet_plugin.search.align.exact_times import exact_frames
from espnet_plugin.search.align.forced_align import LabelPrior, estimate_log_prior, forced_align
from espnet_plugin.search.align.realign import forced_align_transducer
from espnet_plugin.search.beam.beam import BeamSearch, beam_search
from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.beam.greedy import greedy_search
from espnet_plugin.search.beam.internal_lm import internal_lm_log_probs
from espnet_plugin.search.beam.scorers import LabelScorer
from espnet_plugin.search.hypothesis import Hypothesis
from espnet_plugin.search.levenshtein import label_risk, levenshtein
from espnet_plugin.search.lexicon.lexicon_search import (
    LexiconOptions,
    LexiconSearch,
    lexicon_search,
)
from espnet_plugin.search.lexicon.prefix_tree import LexiconEntry, PrefixTree, lexicon_entries
from espnet_plugin.search.lexicon.word_lm import WordNgram, WordScorer
from espnet_plugin.search.lexicon.word_mixture import WordMixture
from espnet_plugin.search.lm.kenlm_model import KenlmModel
from espnet_plugin.search.lm.lm_adapter import LmAdapter
from espnet_plugin.search.lm.ngram import NgramModel, NgramScorer, read_arpa
from espnet_plugin.search.lm.word_end import WordEndScorer
from espnet_plugin.search.nbest import NbestEntry, make_nbest, posteriors, rescore
from espnet_plugin.search.scale_search import ScalePoint, search_scales
from espnet_plugin.search.word_output import (
    TimedWord,
    ctm_lines,
    token_words,
    word_confidences,
)

__all__ = [
    "AlignmentQuality",
    "BeamOptions",
    "BeamSearch",
    "Hypothesis",
    "KenlmModel",
    "LabelPrior",
    "LabelScorer",
    "LexiconEntry",
    "LexiconOptions",
    "LexiconSearch",
    "LmAdapter",
    "NbestEntry",
    "NgramModel",
    "NgramScorer",
    "PrefixTree",
    "ScalePoint",
    "TimedWord",
    "WordEndScorer",
    "WordMixture",
    "WordNgram",
    "WordScorer",
    "alignment_quality",
    "beam_search",
    "ctm_lines",
    "estimate_log_prior",
    "exact_frames",
    "forced_align",
    "forced_align_transducer",
    "greedy_search",
    "internal_lm_log_probs",
    "label_frames",
    "label_risk",
    "levenshtein",
    "lexicon_entries",
    "lexicon_search",
    "make_nbest",
    "posteriors",
    "read_arpa",
    "rescore",
    "search_scales",
    "token_words",
    "word_confidences",
]
