"""Builds what is deployed: bundles and engines from trained models."""
