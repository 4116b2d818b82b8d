"""Files that belong together, by the numbers in their names."""

import re
from collections.abc import Sequence

SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


def missing(paths: Sequence[str]) -> list[str]:
    """Returns the files that their names' "-of-" says there should be."""
    wanted = [
        f"{match[1]}-{number:05}-of-{match[3]}"
        for path in paths
        if (match := SHARD.fullmatch(path))
        for number in range(int(match[3]))
    ]
    return sorted(set(wanted) - set(paths))
