"""Compiles a program for a slice of TPUs, by their own compiler, libtpu.

    python -m tf_largebatch.tpu.compiler PROGRAM TOPOLOGY RESULT

A process of its own, so that nothing is left of what the compiler takes, and
an end of its own is a result like any other. PROGRAM has StableHLO, and
RESULT is written: JSON with the figures of :class:`Figures`, or ``error``.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from tf_largebatch.errors import UserError

# Without these the library asks machines that only Google's cloud has, and
# keeps other processes from loading it, as if there were a TPU to be shared.
ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v3-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
PACKAGES = ("jax", "libtpu")


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a compiled program takes on each device.

    Attributes:
        arguments: bytes of what it is given, variables included.
        outputs: bytes of what it returns, those that are arguments included.
        aliased: bytes of outputs that lie where an argument lay.
        temporaries: bytes beside those, at the worst moment.
        code: bytes of the program.
        flops: operations.
        accessed: bytes that it reads and writes, by the compiler's count.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    flops: float
    accessed: float


def check_installed() -> None:
    """Raises UserError where the packages of the extra are missing."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"preflight needs a package that is not installed ({package});"
                " pip install 'tf-largebatch[garden,preflight]'"
            )


def versions() -> dict[str, str]:
    """Returns the versions of what compiles."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def compile(text: str, topology: str) -> Figures | str:
    """Compiles a program.

    Args:
        text: in StableHLO.
        topology: as libtpu has it, such as ``v3:16x16``.

    Returns:
        Its figures, or what the compiler says is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        program, result = (
            pathlib.Path(folder, name) for name in ("program", "result")
        )
        program.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", __name__, program, topology, result],
            env=os.environ | ENVIRONMENT,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        if not result.exists():
            said = done.stderr.strip().splitlines() or ["nothing"]
            return f"the compiler ended with {done.returncode}: {said[-1]}"
        found = json.loads(result.read_text())
    return found["error"] if "error" in found else Figures(**found)


def main(program: str, topology: str, result: str) -> None:
    """Compiles what is in a file and writes the result to another."""
    import jax.errors

    text = pathlib.Path(program).read_text()
    try:
        found: dict[str, Any] = dataclasses.asdict(figures(text, topology))
    except (ValueError, RuntimeError, jax.errors.JaxRuntimeError) as error:
        found = {"error": " ".join(str(error).split())}
    pathlib.Path(result).write_text(json.dumps(found))


def figures(text: str, topology: str) -> Figures:
    """Returns the figures of a program; the error is the compiler's."""
    import numpy as np
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax.experimental import topologies
    from jaxlib import _jax
    from jaxlib.mlir import ir

    devices: Any = topologies.get_topology_desc(topology, "tpu").devices
    count = len(devices)
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = count, 1
    build = options.executable_build_options
    build.num_replicas, build.num_partitions = count, 1
    build.device_assignment = xla_client.DeviceAssignment.create(
        np.arange(count).reshape(count, 1)
    )
    context = mlir.make_ir_context()
    context.allow_unregistered_dialects = True
    compiled = devices[0].client.compile(
        ir.Module.parse(text, context),
        _jax.DeviceList(tuple(devices)),
        options,
    )
    memory = compiled.get_compiled_memory_stats()
    cost = compiled.cost_analysis()
    return Figures(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=cost["flops"],
        accessed=cost["bytes accessed"],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
