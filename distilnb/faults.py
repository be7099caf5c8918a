"""What can go wrong in an update without ending a run: memory that runs out, numbers that are not finite."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def split(batch: dict[str, Tensor], rows: int) -> Iterator[dict[str, Tensor]]:
    """The batch in parts of at most `rows` rows."""
    for first in range(0, len(batch["input_ids"]), rows):
        yield {key: value[first : first + rows] for key, value in batch.items()}


def in_a_row(steps: Sequence[int], last: int) -> int:
    """How many of the rising `steps` follow each other up to `last`."""
    count = 0
    while count < len(steps) and steps[-1 - count] == last - count:
        count += 1
    return count
