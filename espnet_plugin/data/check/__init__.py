"""Checks of data folders: rules for tables, labels and audio, and their report."""

from espnet_plugin.data.check.folder import check_data_dir
from espnet_plugin.data.check.report import FEATS_TYPES, CheckOptions, Report

__all__ = ["FEATS_TYPES", "CheckOptions", "Report", "check_data_dir"]
