"""The optimizers in float64 NumPy, as plain loops over the steps.

They check the package's rules, so they share no code with them: each is
written out from the published formulas, and nothing of the package is
imported. An oracle takes the start of one variable, its gradients and the
rates (one a step), whether decay and adaptation apply to it, and the
optimizer's other arguments. It returns where the variable ends.
"""

import numpy as np


def norm(x):
    return np.sqrt(np.sum(x * x))


def given(value, default):
    return default if value is None else value


def heavy_ball_outside(w, v, g, eta, mu):
    v = mu * v + g
    return w - eta * v, v


def heavy_ball_inside(w, v, g, eta, mu):
    v = mu * v + eta * g
    return w - v, v


def heavy_ball(
    w,
    gradients,
    rates,
    decayed,
    momentum=0.9,
    weight_decay=0.0,
    learning_rate_in_momentum=False,
):
    step = (
        heavy_ball_inside if learning_rate_in_momentum else heavy_ball_outside
    )
    lam = weight_decay if decayed else 0.0
    v = np.zeros_like(w)
    for g, eta in zip(gradients, rates):
        w, v = step(w, v, g + lam * w, eta, momentum)
    return w


def nesterov(
    w,
    gradients,
    rates,
    decayed,
    momentum=0.9,
    weight_decay=0.0,
    learning_rate_in_momentum=False,
):
    lam = weight_decay if decayed else 0.0
    v = np.zeros_like(w)
    for g, eta in zip(gradients, rates):
        g = g + lam * w
        if learning_rate_in_momentum:
            v = momentum * v + eta * g
            w = w - (momentum * v + eta * g)
        else:
            v = momentum * v + g
            w = w - eta * (momentum * v + g)
    return w


def lars_mlperf(w, v, g, eta, mu, lam, c, eps):
    r = 1.0
    if norm(w) > 0 and norm(g) > 0:
        r = c * norm(w) / (norm(g) + lam * norm(w) + eps)
    v = mu * v + eta * r * (g + lam * w)
    return w - v, v


def lars_flax_2020(w, v, g, eta, mu, lam, c, eps):
    r = 1.0
    denominator = norm(g) + lam * norm(w) + eps
    if denominator > 0 and (norm(w) > 0 or norm(g) > 0):
        r = c * norm(w) / denominator
    v = mu * v + eta * r * (g + lam * w)
    return w - v, v


def lars_contrib_old(w, v, g, eta, mu, lam, c, eps):
    r = 1.0
    if norm(w) > 0 and norm(g) > 0:
        r = c * norm(w) / (norm(g) + lam * norm(w) + eps)
    v = mu * v + g
    return w - eta * r * v, v


def lars_optax(w, v, g, eta, mu, lam, c, eps):
    d = g + lam * w
    r = 1.0
    if norm(w) > 0 and norm(d) > 0:
        r = c * norm(w) / (norm(d) + eps)
    v = mu * v + eta * r * d
    return w - v, v


def lars_model_garden_outside(w, v, g, eta, mu, lam, c, eps):
    v = mu * v + g + lam * w
    r = 1.0
    if norm(w) > 0 and norm(v) > 0:
        r = c * norm(w) / (norm(v) + eps)
    return w - eta * r * v, v


def lars_timm(w, v, g, eta, mu, lam, c, eps):
    r = 1.0
    if norm(w) > 0 and norm(g) > 0:
        r = c * norm(w) / (norm(g) + lam * norm(w) + eps)
    v = mu * v + r * (g + lam * w)
    return w - eta * v, v


# The step of an adapted variable, and that of the others.
LARS_STEPS = {
    "mlperf": (lars_mlperf, heavy_ball_outside),
    "mlperf_tf": (lars_mlperf, heavy_ball_inside),
    "contrib_old": (lars_contrib_old, heavy_ball_outside),
    "optax": (lars_optax, heavy_ball_inside),
    "model_garden": (lars_optax, heavy_ball_inside),
    "model_garden_outside": (lars_model_garden_outside, heavy_ball_outside),
    "timm": (lars_timm, heavy_ball_outside),
    "flax_2020": (lars_flax_2020, heavy_ball_outside),
}


def lars(
    w,
    gradients,
    rates,
    decayed,
    adapted,
    momentum=0.929,
    weight_decay=1e-4,
    trust_coefficient=0.001,
    epsilon=None,
    variant="mlperf",
):
    step, fallback_step = LARS_STEPS[variant]
    lam = weight_decay if decayed else 0.0
    if variant == "timm":
        adapted = adapted and lam != 0
    # The loss has the decay of the older tf.contrib's LARS.
    fallback_lam = 0.0 if variant == "contrib_old" else lam
    eps = given(epsilon, 1e-8 if variant == "timm" else 0.0)
    v = np.zeros_like(w)
    for g, eta in zip(gradients, rates):
        if adapted:
            w, v = step(w, v, g, eta, momentum, lam, trust_coefficient, eps)
        else:
            w, v = fallback_step(w, v, g + fallback_lam * w, eta, momentum)
    return w


def adam_directions(gradients, beta_1, beta_2, epsilon, bias_correction):
    m = s = np.zeros_like(gradients[0])
    for t, g in enumerate(gradients):
        m = beta_1 * m + (1 - beta_1) * g
        s = beta_2 * s + (1 - beta_2) * g * g
        mh, sh = m, s
        if bias_correction:
            mh = m / (1 - beta_1 ** (t + 1))
            sh = s / (1 - beta_2 ** (t + 1))
        yield mh / (np.sqrt(sh) + epsilon)


def adam(
    w,
    gradients,
    rates,
    decayed,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    weight_decay=0.0,
    bias_correction=True,
):
    lam = weight_decay if decayed else 0.0
    directions = adam_directions(
        gradients, beta_1, beta_2, epsilon, bias_correction
    )
    for direction, eta in zip(directions, rates):
        w = w - eta * (direction + lam * w)
    return w


def lamb_mlperf(w, direction, eta, lam, zero_norm_ratio):
    u = direction + lam * w
    r = zero_norm_ratio
    if norm(w) > 0 and norm(u) > 0:
        r = norm(w) / norm(u)
    return w - eta * r * u


def lamb_keras(w, direction, eta, lam, zero_norm_ratio):
    w = w - eta * lam * w
    r = zero_norm_ratio
    if norm(w) > 0 and norm(direction) > 0:
        r = norm(w) / norm(direction)
    return w - eta * r * direction


# The step, then epsilon, bias_correction and zero_norm_ratio where not given.
LAMB_VARIANTS = {
    "mlperf": (lamb_mlperf, 1e-6, True, 1.0),
    "keras": (lamb_keras, 1e-7, True, 1.0),
    "flax": (lamb_mlperf, 1e-6, True, 0.0),
    "bert_2019": (lamb_mlperf, 1e-6, False, 1.0),
}


def lamb(
    w,
    gradients,
    rates,
    decayed,
    adapted,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=None,
    weight_decay=0.01,
    bias_correction=None,
    zero_norm_ratio=None,
    fallback_epsilon=None,
    variant="mlperf",
):
    step, eps, corrected, zero_ratio = LAMB_VARIANTS[variant]
    eps = given(epsilon, eps)
    lam = weight_decay if decayed else 0.0
    if not adapted:
        eps = given(fallback_epsilon, eps)
    directions = adam_directions(
        gradients, beta_1, beta_2, eps, given(bias_correction, corrected)
    )
    for direction, eta in zip(directions, rates):
        if adapted:
            ratio = given(zero_norm_ratio, zero_ratio)
            w = step(w, direction, eta, lam, ratio)
        else:
            w = w - eta * (direction + lam * w)
    return w
