"""Cross-entropies in float64, one number at a time, and how far a float32 implementation may be off."""

import math

import torch

U32, U64 = 2.0**-24, 2.0**-53


def formula(teacher, student, center, teacher_temperature, student_temperature):
    """One teacher's row and one student's, 1-D tensors."""
    x = [(float(t) - float(c)) / teacher_temperature for t, c in zip(teacher, center, strict=True)]
    y = [float(s) / student_temperature for s in student]
    weights = [math.exp(value - max(x)) for value in x]
    log_sum = max(y) + math.log(math.fsum(math.exp(value - max(y)) for value in y))
    return math.fsum(w * (log_sum - value) for w, value in zip(weights, y, strict=True)) / math.fsum(weights)


def tables(teacher_BTK, students, center_K, teacher_temperature, student_temperature):
    """All of them, float64 [B, T, S]."""
    student_BSK = torch.cat(students, dim=1)
    center = torch.zeros(teacher_BTK.shape[-1]) if center_K is None else center_K
    return torch.tensor(
        [
            [[formula(t, s, center, teacher_temperature, student_temperature) for s in student_SK] for t in teacher_TK]
            for teacher_TK, student_SK in zip(teacher_BTK, student_BSK, strict=True)
        ],
        dtype=torch.float64,
    )


def bound(teacher_BTK, students, center_K, teacher_temperature, student_temperature, joins=1, u=U32):
    """The largest error of an entry, to first order with a tenth added, of sums over K prototypes in any order and in ``joins`` parts.

    Let X and Y bound the scaled logits x and y, and the entry be ``lse(y) - sum_k w_k y_k / sum_k w_k``, w_k = exp(x_k - m).
    - Scaling: two roundings of y and three of x (centre, temperature or its inverse). An error d of every x moves a weighted mean of
      numbers up to Y by at most 2 d Y, and one of every y moves it and lse by at most as much: 2 (3 u X) Y + 2 (2 u Y).
    - Weights: x_k - m rounds by u 2 X, and the differences of maxima by which parts are rescaled add up to as much again; the
      exponential, at most 4 u, and a product for each join. Relative to the weight 4 u X + 5 u (joins + 1), which counts in numerator
      and denominator: twice, times Y.
    - Sums of K products in numerator and denominator: 2 (K + joins) u Y, and a quotient, u Y.
    - lse: likewise with Y for X, weights 4 u Y + 5 u (joins + 1) and a sum (K + joins) u, all relative to the sum and so absolute in its
      logarithm; the logarithm, at most 4 u (log K + 1), the sum with the maximum and the last difference, 2 u (2 Y + log K).
    """
    center = 0 if center_K is None else center_K.double()
    X = float(((teacher_BTK.double() - center) / teacher_temperature).abs().max())
    Y = max(float((student.double() / student_temperature).abs().max()) for student in students)
    K = teacher_BTK.shape[-1]
    scaling = 6 * X * Y + 4 * Y
    mean = 2 * Y * (4 * X + 5 * (joins + 1)) + 2 * (K + joins) * Y + Y
    log_sum = 4 * Y + 5 * (joins + 1) + K + joins + 6 * math.log(K) + 4 + 4 * Y
    return 1.1 * u * (scaling + mean + log_sum)


def material(images, teachers, students, prototypes, seed=0, spread=1.0, dtype=torch.float32):
    """Logits [B, T, K], a list of logits [B, S_i, K], a centre [K]."""
    draw = torch.Generator().manual_seed(seed)

    def logits(*shape):
        return (spread * torch.randn(*shape, prototypes, generator=draw, dtype=torch.float64)).to(dtype)

    return logits(images, teachers), [logits(images, views) for views in students], 0.3 * torch.randn(prototypes, generator=draw)
