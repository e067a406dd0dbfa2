"""Losses by which one network's output teaches another's: functions of logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_fp32(logits: Tensor) -> Tensor:
    """Half precision raised to float32, in which sums over classes are safe; others as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, tau: float = 1.0, *, detach: bool = True
) -> Tensor:
    """Kullback-Leibler divergence of the student's output from the teacher's.

    Both distributions stay logarithms, so that any finite logits give a finite loss and gradient.

    Args:
        student_logits: (N, K), before softmax. Half precision is raised to float32 first.
        teacher_logits: (N, K), before softmax. It sets the target.
        tau: Temperature, > 0. Multiplying by its square keeps gradients comparable across values.
        detach: Whether the teacher receives no gradient.

    Returns:
        Scalar in nats, averaged over the batch (not over classes).

    Raises:
        ValueError: If tau is not positive, or the two shapes differ or are not (N, K).

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2.
    """
    if not tau > 0:
        raise ValueError(f"tau must be > 0, got {tau}")
    if student_logits.shape != teacher_logits.shape or student_logits.dim() != 2:
        raise ValueError(
            "student_logits and teacher_logits must both be (N, K), got "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    if detach:
        teacher_logits = teacher_logits.detach()
    target = F.log_softmax(at_least_fp32(teacher_logits) / tau, dim=1)
    prediction = F.log_softmax(at_least_fp32(student_logits) / tau, dim=1)
    return F.kl_div(prediction, target, reduction="batchmean", log_target=True) * tau**2
