"""Plausible wrong answers to the exercises of notebook 02."""

import torch
import torch.nn.functional as F

from distilnb.distillation.losses import cosine_loss, soft_target_loss


def parts(s, t, mask, cut, **more):
    return [soft_target_loss(s[part], t[part], mask[part], **more) for part in (slice(cut), slice(cut, None))]


def by_rows(s, t, mask, cut):
    first, second = parts(s, t, mask, cut)
    return (cut * first + (len(s) - cut) * second) / len(s)


def reverse(s, t):
    log_s, log_t = F.log_softmax(s, -1), F.log_softmax(t, -1)
    return (log_s.exp() * (log_s - log_t)).sum(-1)


def centred(logits):
    return logits - logits.mean(-1, keepdim=True)


def cosines(student, teacher, batch, places, mask=None):
    own, theirs = (model(**batch, output_hidden_states=True).hidden_states for model in (student, teacher))
    mask = batch["attention_mask"] if mask is None else mask
    return [cosine_loss(own[i], theirs[j], mask) for i, j in places]


WRONG = {
    "02.1": [0.45, 0.9, 0.988, 0.5, 0.6],
    "02.2": [
        lambda s, t, mask, cut: sum(parts(s, t, mask, cut)) / 2,
        lambda s, t, mask, cut: sum(parts(s, t, mask, cut)),
        by_rows,
        lambda s, t, mask, cut: sum(parts(s, t, mask, cut, count=mask.numel())),
        lambda s, t, mask, cut: sum(parts(s, t, mask, cut, count=len(s))),
    ],
    "02.3": [
        lambda s, t, mask: soft_target_loss(s, t, mask, 1.0),
        lambda s, t, mask: -reverse(s, t)[mask.bool()].mean(),
        lambda s, t, mask: reverse(s, t).mean(),
        lambda s, t, mask: reverse(s, t)[mask.bool()].sum(),
        lambda s, t, mask: reverse(s, t)[mask.bool()].mean() / s.shape[-1],
        lambda s, t, mask: soft_target_loss(t, s, mask),
        lambda s, t, mask: (s - t)[mask.bool()].mean(),
    ],
    "02.4": [
        lambda s, t: ((s - t) ** 2).mean() / 2,
        lambda s, t: ((centred(s) - centred(t)) ** 2).mean(),
        lambda s, t: ((centred(s) - centred(t)) ** 2).sum(-1).mean() / 2,
        lambda s, t: ((centred(s) - centred(t)) ** 2).mean(-1).sum() / 2,
        lambda s, t: (((s - s.mean()) - (t - t.mean())) ** 2).mean() / 2,
        lambda s, t: 0.0,
        lambda s, t: (centred(s) - centred(t)).abs().mean(),
    ],
    "02.5": [
        lambda s, t, batch, chosen: cosines(s, t, batch, [(i + 1, j) for i, j in enumerate(chosen)]),
        lambda s, t, batch, chosen: cosines(s, t, batch, enumerate(chosen)),
        lambda s, t, batch, chosen: cosines(s, t, batch, [(i + 1, i + 1) for i in range(len(chosen))]),
        lambda s, t, batch, chosen: cosines(s, t, batch, [(0, 0), *((i + 1, j + 1) for i, j in enumerate(chosen))]),
        lambda s, t, batch, chosen: cosines(
            s, t, batch, [(i + 1, j + 1) for i, j in enumerate(chosen)], torch.ones_like(batch["attention_mask"])
        ),
        lambda s, t, batch, chosen: [1 - x for x in cosines(s, t, batch, [(1, 1), (2, 4)])],
        lambda s, t, batch, chosen: cosines(s, t, batch, [(2, 4)]),
        lambda s, t, batch, chosen: [0.1, 0.2],
    ],
}
