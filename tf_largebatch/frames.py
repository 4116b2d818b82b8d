"""How TFRecord files are laid out: where records begin, and what is cut off.

A record is its length (8 bytes), the length's checksum (4), the data, and the
data's checksum (4). TensorFlow does not say where the first broken one is, nor
how many stand behind it, and takes a file that ends inside a length for whole.
"""

from typing import IO, Any

import numpy as np

HEADER = 12
FOOTER = 4
# CRC-32C, its bits turned round, and what TFRecord files add to it.
POLYNOMIAL = 0x82F63B78
MASK_DELTA = 0xA282EAD8
ALL_BITS = 0xFFFFFFFF
# How much is read from a file's end at first: more than most records.
TAIL = 1 << 18
# How much is searched at once for the next record.
BLOCK = 1 << 20


def make_table() -> list[int]:
    """Returns the CRC-32C of every byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (value & 1) * POLYNOMIAL
        table.append(value)
    return table


TABLE = make_table()


def checksum(content: Any, table: Any) -> Any:
    """Returns the masked CRC-32C of bytes, or of many rows of them at once.

    Args:
        content: the bytes; or for each place an array, uint32, with the bytes
            that the rows have there.
        table: ``TABLE``; as an array for arrays.

    >>> hex(checksum(bytes(8), TABLE))
    '0x7980329'
    """
    crc = ALL_BITS
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc = crc ^ ALL_BITS
    rotated = (crc >> 15 | crc << 17) & ALL_BITS
    return (rotated + MASK_DELTA) & ALL_BITS


def is_header(header: bytes) -> bool:
    """Whether bytes are a length and its checksum."""
    found = int.from_bytes(header[8:], "little")
    return len(header) == HEADER and found == checksum(header[:8], TABLE)


def headers_in(content: bytes) -> list[int]:
    """Returns at which places a length and its checksum stand."""
    count = len(content) - HEADER + 1
    if count < 1:
        return []
    values = np.frombuffer(content, np.uint8).astype(np.uint32)
    columns = [values[place : place + count] for place in range(HEADER)]
    found = sum(column << 8 * n for n, column in enumerate(columns[8:]))
    expected = checksum(columns[:8], np.array(TABLE, np.uint32))
    return np.flatnonzero(found == expected).tolist()


def walk(file: IO[bytes], size: int, position: int = 0) -> tuple[int, int]:
    """Goes from record to record, by their lengths alone.

    Args:
        file: which.
        size: how long it is.
        position: where a record begins.

    Returns:
        How many intact lengths there are before the first that is not, or
        that leads beyond the end; and where the last of the records ends.
    """
    count = 0
    while position + HEADER + FOOTER <= size:
        file.seek(position)
        header = file.read(HEADER)
        length = int.from_bytes(header[:8], "little")
        end = position + HEADER + length + FOOTER
        if end > size or not is_header(header):
            break
        count, position = count + 1, end
    return count, position


def count_lost(file: IO[bytes], size: int, position: int) -> int | None:
    """Returns how many records are lost where a length is broken.

    Args:
        file: which.
        size: how long it is.
        position: where the record with the broken length begins.

    Returns:
        That one and those after it; None where it cannot be known, because
        the end of the file is gone.
    """
    for start in range(position + 1, size, BLOCK):
        file.seek(start)
        for place in headers_in(file.read(BLOCK + HEADER - 1)):
            count, end = walk(file, size, start + place)
            if end == size:
                return 1 + count
    return None


def ends_whole(file: IO[bytes], size: int) -> bool:
    """Whether a file ends where a record does; reads the last one alone."""
    length = TAIL
    while True:
        start = max(0, size - length)
        file.seek(start)
        if ends_a_record(file.read(size - start)):
            return True
        if not start:
            return False
        length *= 8


def ends_a_record(tail: bytes) -> bool:
    """Whether in the end of a file a record begins that ends with it."""
    for shift in range(8):
        count = max(0, len(tail) - shift) // 8
        lengths = np.frombuffer(tail, "<u8", count, min(shift, len(tail)))
        places = np.arange(count, dtype=np.uint64) * 8 + shift
        ends = lengths + places + (HEADER + FOOTER)
        for place in places[ends == len(tail)].tolist():
            if is_header(tail[int(place) : int(place) + HEADER]):
                return True
    return False
