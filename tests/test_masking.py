"""Dynamic masking: the recipe's shares, and a pure function of (seed, epoch, sample id).

Statistical tests draw from fixed seeds. Each says how far its share may be off: at least four standard deviations.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distilnb.text.masking import IGNORE, Masker, NextWord, mask_weights
from distilnb.text.randomness import generator, seed_dropout

VOCAB, MASK, SPECIAL = 500, 4, [0, 1, 2, 3, 4]


def uniform(**more) -> Masker:
    """All ordinary pieces alike."""
    return Masker(MASK, mask_weights(np.ones(VOCAB), SPECIAL, smoothing=0), **more)


def rows(count: int, length: int = 128, seed: int = 0) -> np.ndarray:
    """[CLS] random pieces [SEP], (count, length)."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, VOCAB, (count, length))
    ids[:, 0], ids[:, -1] = 2, 3
    return ids


def mask_all(masker: Masker, ids: np.ndarray, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Masked ids and labels of many rows, row i as sample i."""
    pairs = [masker(row, epoch, i) for i, row in enumerate(ids)]
    return np.stack([m for m, _ in pairs]), np.stack([labels for _, labels in pairs])


def same(one: tuple, other: tuple) -> bool:
    """Whether both ids and labels are equal."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# pure function


def test_masks_depend_on_seed_epoch_and_sample_and_nothing_else():
    ids, masker = rows(1)[0], uniform(seed=3)
    first = masker(ids, 1, 7)
    np.random.seed(0)  # noqa: NPY002 the global generator must not matter
    masker(ids, 5, 5)  # nor what was masked before
    assert same(first, masker(ids, 1, 7)) and same(first, uniform(seed=3)(ids, 1, 7))
    for other in (masker(ids, 2, 7), masker(ids, 1, 8), uniform(seed=4)(ids, 1, 7), masker(ids, 7, 1)):
        assert not np.array_equal(first[1], other[1])


def test_masking_leaves_its_input_and_the_global_generator_alone():
    ids = rows(1)[0]
    before, state = ids.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    uniform()(ids, 0, 0)
    assert np.array_equal(ids, before) and np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def numbers(*key: int) -> tuple[int, ...]:
    """The first two of a generator, enough to tell it from another."""
    return tuple(generator(*key).integers(2**62, size=2).tolist())


def test_generators_of_different_keys_differ():
    keys = [(a, b, c) for a in (0, 1, 2**40) for b in (0, 1) for c in (0, 1)]
    assert len({numbers(*key) for key in keys}) == len(keys)
    assert numbers(0, 1, 2) == numbers(0, 1, 2)


def test_generators_of_keys_of_different_length_differ():
    """Else the order of an epoch is drawn from the stream that masks its sample 0."""
    assert len({numbers(5), numbers(5, 0), numbers(5, 0, 0)}) == 3


# shares


def test_fifteen_percent_and_80_10_10():
    """100,096 tokens. A share p of n has standard deviation √(p(1−p)/n): 0.003 for the fates of 15,000 tokens."""
    ids = rows(782)
    masked, labels = mask_all(uniform(), ids)
    chosen = labels != IGNORE
    assert chosen.mean() == pytest.approx(0.15, abs=0.001)  # nearly no spread: each row has 19 or 20
    fate, truth = masked[chosen], ids[chosen]
    assert (fate == MASK).mean() == pytest.approx(0.8, abs=0.014)
    random_share = ((fate != MASK) & (fate != truth)).mean()
    assert random_share == pytest.approx(0.1 * (1 - 1 / VOCAB), abs=0.011)
    assert (fate == truth).mean() == pytest.approx(0.1, abs=0.011)


def test_random_pieces_are_spread_over_the_vocabulary():
    """About 1,500 swaps over 500 pieces: each half of the vocabulary gets its half, within 0.06."""
    ids = rows(782)
    masked, labels = mask_all(uniform(), ids)
    swapped = masked[(labels != IGNORE) & (masked != MASK) & (masked != ids)]
    assert (swapped < VOCAB // 2).mean() == pytest.approx(0.5, abs=0.06)
    assert len(set(swapped)) > 0.9 * VOCAB


def test_what_is_not_chosen_stays_and_labels_hold_the_truth():
    ids = rows(50)
    masked, labels = mask_all(uniform(), ids)
    chosen = labels != IGNORE
    assert np.array_equal(masked[~chosen], ids[~chosen]) and np.array_equal(labels[chosen], ids[chosen])
    assert chosen.any(1).all() and labels.dtype == np.int64


def test_special_tokens_are_never_chosen():
    """In 10⁵ tokens, a fifth of them special."""
    ids = rows(782)
    ids[:, 1::5] = np.random.default_rng(1).choice(SPECIAL, ids[:, 1::5].shape)
    special = np.isin(ids, SPECIAL)
    masked, labels = mask_all(uniform(), ids)
    assert special.mean() > 0.2
    assert (labels[special] == IGNORE).all() and np.array_equal(masked[special], ids[special])
    assert (labels != IGNORE).mean() == pytest.approx(0.15, abs=0.001)  # they count in the budget, as in the original


@pytest.mark.parametrize("length, expected", [(3, 0.45), (10, 1.5), (20, 3.0)])
def test_short_sequences_have_15_percent_on_average(length, expected):
    """A fraction of a token is rounded at random, to one of the two whole numbers beside it."""
    counts = (mask_all(uniform(), rows(3000, length))[1] != IGNORE).sum(1)
    assert set(counts) <= {int(expected), int(expected) + 1} - ({int(expected) + 1} if expected % 1 == 0 else set())
    assert counts.mean() == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.5])
def test_share_follows_the_probability(probability):
    labels = mask_all(uniform(probability=probability), rows(100))[1]
    assert (labels != IGNORE).mean() == pytest.approx(probability, abs=0.003)


def test_never_more_than_the_ordinary_tokens():
    ids = np.array([2, 3, 0, 0, 0, 9, 0, 3])
    for sample in range(50):
        _, labels = uniform(probability=0.9)(ids, 0, sample)
        assert set(np.flatnonzero(labels != IGNORE)) == {5}
    masked, labels = uniform()(np.array([2, 3]), 0, 0)
    assert (labels == IGNORE).all() and masked.tolist() == [2, 3]


# smoothing


def test_weights_are_counts_to_the_minus_smoothing():
    counts = np.array([10, 0, 1, 16, 10_000])
    np.testing.assert_allclose(mask_weights(counts, [0], 0.5), [0, 1, 1, 1 / 4, 1 / 100])
    np.testing.assert_allclose(mask_weights(counts, [0, 4], 0), [0, 1, 1, 1, 0])


@pytest.mark.parametrize("smoothing", [0.7, 0.0])
def test_rare_words_are_chosen_more_often_by_the_exponent(smoothing):
    """Two words a row, one counted 1, the other 100 times: their odds are 100 ** smoothing (25 at 0.7).

    With one token chosen of two, the rare one's share is w / (1 + w); 4,000 rows, four standard deviations 0.032.
    """
    counts = np.ones(VOCAB)
    counts[10] = 100
    masker = Masker(MASK, mask_weights(counts, SPECIAL, smoothing), probability=0.5)
    labels = np.stack([masker(np.array([10, 11]), 0, i)[1] for i in range(4000)])
    assert ((labels != IGNORE).sum(1) == 1).all()
    odds = 100**smoothing
    assert (labels[:, 1] != IGNORE).mean() == pytest.approx(odds / (1 + odds), abs=0.032)


def test_smoothing_zero_chooses_all_places_alike():
    labels = mask_all(uniform(), rows(2000, 22))[1]
    share = (labels != IGNORE)[:, 1:-1].mean(0)  # 3.3 of 20 ordinary tokens
    assert share == pytest.approx(np.full(20, 0.165), abs=0.034)


# making one


def test_of_a_tokenizer(tokenizer):
    counts = np.arange(len(tokenizer))
    masker = Masker.of(tokenizer, counts, smoothing=1.0, probability=0.2, seed=9)
    assert (masker.mask_id, masker.probability, masker.seed) == (tokenizer.mask_token_id, 0.2, 9)
    assert set(np.flatnonzero(masker.weights == 0)) == set(tokenizer.all_special_ids)
    assert masker.weights[50] == pytest.approx(1 / 50)
    assert Masker.of(tokenizer, counts).probability == 0.15
    assert Masker.of(tokenizer, counts).weights[50] == pytest.approx(50**-0.7)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, 15, float("nan")])
def test_probability_is_a_share(probability):
    with pytest.raises(ValueError, match="probability"):
        replace(uniform(), probability=probability)


def test_the_label_of_a_token_is_the_next_one():
    """Nothing is hidden, and the last token has no successor."""
    ids, labels = NextWord()(np.array([5, 6, 7]), 0, 0)
    assert ids.tolist() == [5, 6, 7] and labels.tolist() == [6, 7, IGNORE]


def test_dropout_follows_seed_update_and_process():
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)):
            seed_dropout(*key)
            drawn.append(tuple(torch.rand(3).tolist()))
    assert drawn[0] == drawn[-1] and len(set(drawn)) == 4
