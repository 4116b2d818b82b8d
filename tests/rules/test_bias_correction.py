"""The bias correction of Adam's moments in float32, where 1 - 0.999 cancels."""

import numpy as np
import pytest

from tf_largebatch.rules.adam import one_minus_power


@pytest.mark.parametrize("beta", [0.9, 0.999, np.array(0.999, "float32")])
def test_it_keeps_its_digits_in_float32(beta):
    steps = np.arange(1, 3000)
    found = one_minus_power(np, beta, steps.astype("float32"))
    exact = 1 - np.float64(beta) ** steps
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=1e-6)
