"""What is known on disk: state, fingerprints, freshness, lock, progress, quality."""

from espnet_plugin.pipeline.state.state import PipelineState, StepState

__all__ = ["PipelineState", "StepState"]
