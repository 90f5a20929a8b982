"""Label-level search: greedy and beam, one step of it, its states and scores."""

from espnet_plugin.search.beam.beam import BeamSearch, beam_search

__all__ = ["BeamSearch", "beam_search"]
