"""LARS against timm.optim.Lars, which needs PyTorch."""

import importlib
import importlib.util
import inspect
import pathlib
import sys
import types

import numpy as np
import pytest

pytestmark = pytest.mark.slow

NOT_DECAYED = {"dense/bias", "norm/gamma"}  # And for that reason not adapted.
DECAYED = {
    "conv/kernel",
    "table/embeddings",
    "dense/kernel",
    "head/kernel",
    "head/temperature",
}
EVERY = DECAYED | NOT_DECAYED


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def lars_class(torch):
    """timm.optim.Lars, without the torchvision that `import timm` needs."""
    spec = importlib.util.find_spec("timm")
    if spec is None:
        pytest.skip("needs timm: pip install --no-deps timm")
    package = types.ModuleType("timm_optim")
    package.__path__ = [
        str(pathlib.Path(folder, "optim"))
        for folder in spec.submodule_search_locations
    ]
    sys.modules[package.__name__] = package
    return importlib.import_module("timm_optim.lars").Lars


@pytest.fixture(scope="module")
def lars(problem, torch, lars_class):
    """The trajectory of timm.optim.Lars."""
    parameters = {
        # A copy: PyTorch changes it in place.
        path: torch.nn.Parameter(torch.tensor(value))
        for path, value in problem.start.items()
    }
    decayed = [parameters[path] for path in sorted(DECAYED)]
    others = [parameters[path] for path in sorted(NOT_DECAYED)]
    optimizer = lars_class(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others}],
        momentum=0.8,
        trust_coeff=0.05,
        eps=0.02,
    )
    weights = []
    for step, rate in enumerate(problem.rates):
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        for path, parameter in parameters.items():
            parameter.grad = torch.tensor(problem.gradients[path][step])
        optimizer.step()
        weights.append(
            [p.numpy(force=True).copy() for p in parameters.values()]
        )
    return dict(zip(parameters, map(np.stack, zip(*weights))))


@pytest.mark.parametrize(
    "variant, not_adapted, apart",
    [
        ("timm", (), set()),
        ("timm", ["bias", "gamma"], set()),
        ("mlperf", (), EVERY),
        ("mlperf", ["bias", "gamma"], DECAYED),  # The rate is inside.
        ("mlperf_tf", ["bias", "gamma"], EVERY),
        ("contrib_old", ["bias", "gamma"], DECAYED),  # No decay.
        ("model_garden_outside", ["bias", "gamma"], DECAYED),
    ],
)
def test_lars_is_its_variant(
    problem, family, lars, variant, not_adapted, apart
):
    optimizer = family.largebatch.LARS(
        1.0,
        momentum=0.8,
        weight_decay=0.1,
        trust_coefficient=0.05,
        epsilon=0.02,
        exclude_from_layer_adaptation=not_adapted,
        exclude_from_weight_decay=["bias", "gamma"],
        variant=variant,
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, lars) == apart


def test_the_variant_has_the_epsilon_of_timm(family, lars_class):
    default = inspect.signature(lars_class).parameters["eps"].default
    assert family.largebatch.LARS(1.0, variant="timm").epsilon == default
