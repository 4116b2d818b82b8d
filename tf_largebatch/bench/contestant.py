"""One optimizer in a process of its own, which takes a step when told to.

    python contestant.py '{"driver": ..., "optimizer": ..., ...}'

It prints a line when the first step is done, then one for every line that it
reads. This file imports nothing of the package, so that it runs as well where
another TensorFlow is installed than this package needs.
"""

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

Work = dict[str, Any]  # What the argument describes.
Arrays = dict[str, np.ndarray]  # Start values, by path.
Step = Callable[[], Any]
PAGE = 1 << 10  # What /proc counts in: kB.


def main() -> None:
    """Makes the optimizer that the argument describes; takes steps."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Where libraries may print.
    work = json.loads(sys.argv[1])
    driver = {
        "keras": keras_driver,
        "keras on jax": jax_driver,
        "loop": loop_driver,
        "optax": optax_driver,
        "tf_keras": tf_keras_driver,
    }[work["driver"]]
    arrays = [
        np.random.default_rng(number).normal(size=shape).astype(np.float32)
        for number, shape in enumerate(work["shapes"].values())
    ]
    step = driver(work, dict(zip(work["shapes"], arrays)))
    before = memory("VmRSS")
    first = timed(step)
    timed(step)
    resident = memory("VmRSS")
    reset_peak()
    say(channel, {"first": first, "before": before})
    for line in sys.stdin:
        if line.strip() == "memory":
            peak = memory("VmHWM")
            say(channel, {"resident": resident, "peak": peak})
        else:
            say(channel, {"seconds": timed(step)})


def say(channel: TextIO, figures: dict[str, Any]) -> None:
    """Prints a line for the process that asked."""
    print(json.dumps(figures), file=channel, flush=True)


def timed(step: Step) -> float:
    """Returns how long a step takes."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def memory(name: str) -> int | None:
    """Returns a line of /proc/self/status in bytes; None where it is not."""
    try:
        with open("/proc/self/status") as lines:
            for line in lines:
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) * PAGE
    except OSError:
        pass
    return None


def reset_peak() -> None:
    """Makes the peak of memory what is in use now, where Linux lets us."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return


def create(work: Work) -> Any:
    """Returns the optimizer by its dotted name."""
    module, name = work["optimizer"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**work["arguments"])


def tf_keras_driver(work: Work, arrays: Arrays) -> Step:
    """Returns a step of an optimizer of tf_keras, or of Keras 2."""
    import tensorflow as tf

    variables = [tf.Variable(x, name=path) for path, x in arrays.items()]
    return tensorflow_step(work, create(work), variables, arrays)


def keras_driver(work: Work, arrays: Arrays) -> Step:
    """Returns a step of an optimizer of Keras 3 on TensorFlow."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    return tensorflow_step(work, create(work), keras_variables(arrays), arrays)


def tensorflow_step(
    work: Work, optimizer: Any, variables: list[Any], arrays: Arrays
) -> Step:
    """Returns a step, compiled as asked for."""
    import tensorflow as tf

    gradients = [tf.constant(x) for x in arrays.values()]
    if hasattr(optimizer, "build"):
        optimizer.build(variables)

    @tf.function(jit_compile=work["xla"])
    def step(gradients):
        optimizer.apply_gradients(list(zip(gradients, variables)))

    return lambda: step(gradients)


def keras_variables(arrays: Arrays) -> list[Any]:
    """Returns variables of Keras 3, where their paths say."""
    import keras

    found = []
    for path, values in arrays.items():
        *scopes, name = path.split("/")
        with contextlib.ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(keras.name_scope(scope))
            found.append(keras.Variable(values, name=name))
    return found


def jax_driver(work: Work, arrays: Arrays) -> Step:
    """Returns a step of an optimizer of Keras 3 on JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax

    variables = keras_variables(arrays)
    optimizer = create(work)
    optimizer.build(variables)
    compiled = jax.jit(
        lambda state, gradients, weights: optimizer.stateless_apply(
            state, gradients, weights
        )[::-1],
        donate_argnums=(0, 2),
    )
    state = [variable.value for variable in optimizer.variables]
    weights = [variable.value for variable in variables]
    gradients = list(map(jax.numpy.asarray, arrays.values()))
    return jax_step(compiled, state, gradients, weights)


def optax_driver(work: Work, arrays: Arrays) -> Step:
    """Returns a step of an optimizer of optax."""
    import jax
    import optax

    optimizer = create(work)

    def update(state, gradients, weights):
        updates, state = optimizer.update(gradients, state, weights)
        return state, optax.apply_updates(weights, updates)

    compiled = jax.jit(update, donate_argnums=(0, 2))
    weights = list(map(jax.numpy.array, arrays.values()))
    gradients = list(map(jax.numpy.asarray, arrays.values()))
    return jax_step(compiled, optimizer.init(weights), gradients, weights)


def loop_driver(work: Work, arrays: Arrays) -> Step:
    """Returns a step of what is the least: loops in place over the bytes.

    As many slots as ``slots`` says are read and written with the weights, the
    gradients read. With ``norms_of`` there is a pass before that, which reads
    the weights beside the ``gradients`` or the ``slots``, for two norms.
    """
    import jax

    def sums(read, weights):
        pairs = jax.tree.leaves(read), jax.tree.leaves(weights)
        return [sum(map(jax.numpy.vdot, group, group)) for group in pairs]

    def update(slots, gradients, weights):
        slots = [
            [0.9 * x + 0.1 * g for x, g in zip(slot, gradients)]
            for slot in slots
        ]
        moved = zip(weights, gradients, *slots)
        return slots, [w - 1e-3 * sum(rest) for w, *rest in moved]

    def step(slots, gradients, weights):
        if norms_of:
            read = {"gradients": gradients, "slots": slots}[norms_of]
            jax.block_until_ready(norms(read, weights))
        return loop(slots, gradients, weights)

    norms_of = work["arguments"].get("norms_of")
    norms, loop = jax.jit(sums), jax.jit(update, donate_argnums=(0, 2))
    weights, gradients, *slots = (
        list(map(jax.numpy.array, arrays.values()))
        for _ in range(2 + work["arguments"]["slots"])
    )
    return jax_step(step, slots, gradients, weights)


def jax_step(
    compiled: Callable[..., Any],
    state: Any,
    gradients: list[Any],
    weights: list[Any],
) -> Step:
    """Returns a step that waits until it is done."""
    import jax

    kept = [state, weights]

    def step():
        kept[:] = compiled(kept[0], gradients, kept[1])
        jax.block_until_ready(kept)

    return step


if __name__ == "__main__":
    main()
