"""Scans of other sites than those that networks were trained on."""

from __future__ import annotations

from scanside_training.evaluation.sites.data import OtherSitesData

__all__ = ["OtherSitesData"]
