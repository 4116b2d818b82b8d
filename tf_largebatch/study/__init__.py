"""Fair comparisons: equal tuning budgets, many seeds, medians, a report.

``compare`` does one of a user's own Keras 3 model. Importing this package
imports neither Keras nor TensorFlow; they load when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_largebatch.study.own_model import compare

__all__ = ["compare"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        own_model = importlib.import_module(f"{__name__}.own_model")
        return getattr(own_model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
