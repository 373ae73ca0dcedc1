"""Learned engines: bundles, backends, and the gate that accepts them."""
