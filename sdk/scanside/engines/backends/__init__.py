"""Engine backends by name, one module each.

Each module imports its own package only when it is asked to do something, so that all of them can be named and
asked whether they are available on any machine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from scanside.errors import ConfigError
from scanside.texts import shown

if TYPE_CHECKING:
    from scanside.engines.backends.base import Backend

__all__ = ["NAMES", "backend"]

_CLASSES = {
    "eager": "eager:Eager",
    "aoti-cpu": "aoti_cpu:AotiCpu",
    "openvino": "openvino:OpenVino",
    "onnxruntime": "onnxruntime:OnnxRuntime",
    "eager-cuda": "eager_cuda:EagerCuda",
    "aoti-cuda": "aoti_cuda:AotiCuda",
    "tensorrt_rtx": "tensorrt_rtx:TensorRtRtx",
    "torch_tensorrt": "torch_tensorrt:TorchTensorRt",
}

NAMES = tuple(_CLASSES)
"""All backends, the reference first."""


def backend(name: str) -> Backend:
    """The backend of some name, with its default settings.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in _CLASSES:
        raise ConfigError(f"there is no engine backend {shown(name)}; there are {', '.join(NAMES)}")
    module, _, cls = _CLASSES[name].partition(":")
    made: Backend = getattr(import_module(f"scanside.engines.backends.{module}"), cls)()
    return made
