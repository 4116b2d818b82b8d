"""Large-batch training and honest optimizer comparison in TensorFlow.

``tf_largebatch.keras`` holds the optimizers and schedules for Keras 3,
``tf_largebatch.tf_keras`` the same for tf_keras, the Model Garden's Keras.
Importing this package imports neither; they load when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = ("keras", "rules", "schedules", "tf_keras", "variables")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
