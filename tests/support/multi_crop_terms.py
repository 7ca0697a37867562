"""Multi-crop losses of terms by (teacher's view, student's view), and the hardest choice that they make, for trainers under a witness."""

# Axes: B image, V view.

from __future__ import annotations

import torch


class Candidates:
    """The latest batch of a script and its loader, of which the formulas need rows and the trainer's centres."""

    def remember(self, batch, loader):
        self.batch, self.objective = batch, loader.selector.objective


def cross_entropy(teacher, student, center, temperature, student_temperature):
    target = ((teacher - center) / temperature).softmax(-1)
    return -(target * (student / student_temperature).log_softmax(-1)).sum(-1)


def loss_of(terms, pair, local, image=None):
    """The published loss of a choice, of all images, or of one."""

    def value(t, s):
        return terms[t, s] if image is None else terms[t, s][image]

    chosen = (*pair, *local)
    cls = [value(t, s) for t in pair for s in chosen if s != t]
    patches = [value(t, t) for t in pair] if (pair[0], pair[0]) in terms else []
    return sum(cls) / len(cls) + sum(patches) / 2


def table_of(seen, exact, rounded):
    """For each pair the loss with its hardest local views, in float64, and what float32 errs; checks the chosen local views."""
    # a choice's loss is a mean of terms, and a sum of two means with patches; what is compared errs on both sides
    error = 4 * max(float((exact[key] - rounded[key]).abs().max()) for key in exact)
    selection, params = seen.batch.selection, seen.batch.params
    local = [v for v, role in enumerate(params.role) if role == "local"]
    images, count = len(selection.pair), len(params.role)
    table = torch.full((images, count, count), -torch.inf, dtype=torch.float64)
    for i, j in selection.legal.nonzero().tolist():
        gains = torch.stack([exact[i, v] + exact[j, v] for v in local], 1)
        best = gains.argsort(1, descending=True)[:, : params.emitted["local"]]
        for b in range(images):
            table[b, i, j] = loss_of(exact, (i, j), [local[place] for place in best[b].tolist()], b)
    for b in range(images):
        i, j, *chosen = selection.slots[b].tolist()
        assert loss_of(exact, (i, j), chosen, b) >= table[b].max() - error
    return table, error
