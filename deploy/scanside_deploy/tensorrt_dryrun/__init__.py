"""Does a network become one TensorRT engine? Asked of torch-tensorrt itself, on machines that have no TensorRT.

``python -m scanside_deploy.tensorrt_dryrun`` (``make tensorrt-dryrun`` makes its environment) exports every
network exactly as the backend `scanside.engines.backends.torch_tensorrt` does, lets the real torch-tensorrt lower
and partition it, and runs the lowered graph on the CPU beside the network.

What cannot be had without NVIDIA's libraries is stood in for (`stand_in`): a library whose functions are never
called, and a GPU that is only named. So no engine is built; the report says what that leaves open.
"""
