"""Random choices as pure functions of (seed, epoch, sample id), so that resuming is exact (notebook 03)."""

import numpy as np
import torch


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, group: bool = False) -> np.ndarray:
    """The order of the samples in an epoch: indices (samples,), a pure function of (seed, epoch).

    With `group`, stretches of up to 50 batches (a quarter of a small set) are sorted by length and the batches
    shuffled again, so that a batch holds sequences of similar length and little padding.
    """
    draw = generator(seed, epoch)
    order = draw.permutation(len(lengths))
    if not group:
        return order
    stretch = batch_size * max(1, min(50, len(order) // (4 * batch_size)))
    stretches = np.split(order, range(stretch, len(order), stretch))
    order = np.concatenate([s[np.argsort(lengths[s], kind="stable")] for s in stretches])
    whole = len(order) // batch_size * batch_size
    batches = draw.permutation(order[:whole].reshape(-1, batch_size)) if whole else order[:0]
    return np.concatenate([batches.reshape(-1), order[whole:]])


def generator(*key: int) -> np.random.Generator:
    """A random generator that is a pure function of `key`, any number of non-negative integers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((len(key), *key))))


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Seed dropout from (seed, step, process), so that no random state has to be saved or restored.

    `torch.manual_seed` would do, but writes a stack trace for each kind of device that is not in use.
    """
    number = int(generator(seed, step, rank).integers(2**62))
    torch.default_generator.manual_seed(number)
    torch.mps.manual_seed(number)
    for kind in (torch.cuda, torch.xpu):
        if kind.is_initialized():
            kind.manual_seed_all(number)
