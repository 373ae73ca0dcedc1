"""Echo-planar imaging: ramp samples, and phases that differ between the echoes of a train."""
