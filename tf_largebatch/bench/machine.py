"""What a machine can do at most: how fast it moves memory, how much it has."""

import concurrent.futures
import os
import time

import numpy as np

from tf_largebatch import parallel

# Too much for a processor's cache, most of the time.
COPIED = 256 << 20


class Copies:
    """Copies memory with a thread a core, for a machine's bandwidth."""

    def __init__(self) -> None:
        self.cores = parallel.cores()
        size = COPIED // 4
        self.arrays = [
            (np.ones(size, np.float32), np.zeros(size, np.float32))
            for _ in range(self.cores)
        ]
        self.pool = concurrent.futures.ThreadPoolExecutor(self.cores)

    def bandwidth(self) -> float:
        """Copies once; returns bytes read and written a second."""
        begin = time.perf_counter()
        # NumPy lets go of the interpreter's lock while it copies.
        list(
            self.pool.map(lambda pair: np.copyto(pair[1], pair[0]), self.arrays)
        )
        return 2 * COPIED * self.cores / (time.perf_counter() - begin)


def free_memory() -> int:
    """Returns how many bytes nobody uses."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
