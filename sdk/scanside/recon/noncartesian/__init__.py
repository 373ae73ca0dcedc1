"""Reconstruction of samples that do not lie on a grid."""
