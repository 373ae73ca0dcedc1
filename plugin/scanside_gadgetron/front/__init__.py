"""A folder for PYTHONPATH: stands before gadgetron-python in the nodes that are started with it."""
