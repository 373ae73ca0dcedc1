"""Numerical methods of reconstruction as pure functions on tensors; the stages wrap them."""
