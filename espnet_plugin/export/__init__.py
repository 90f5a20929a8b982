"""Trained models for runtimes without Python or PyTorch: ONNX, for sherpa-onnx (L5)."""

from espnet_plugin.export.sherpa import ExportOptions, export_onnx

__all__ = ["ExportOptions", "export_onnx"]
