"""Losses against plainly written formulas."""

from __future__ import annotations

import math

import pytest
import torch

from mutualnet.losses import distillation_loss


def _slow_kl(student: torch.Tensor, teacher: torch.Tensor, tau: float) -> float:
    """Sum of p log(p / q) per sample with Python floats, averaged over the batch."""
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        s = [math.exp(v / tau) for v in s_row]
        t = [math.exp(v / tau) for v in t_row]
        p = [v / sum(t) for v in t]
        q = [v / sum(s) for v in s]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return tau**2 * total / len(student)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_distillation_is_the_batch_mean_of_kl_from_teacher_to_student(tau):
    student, teacher = torch.randn(5, 7), 2 * torch.randn(5, 7)
    got = distillation_loss(student, teacher, tau)
    assert float(got) == pytest.approx(_slow_kl(student, teacher, tau), rel=1e-5)


def test_distillation_gradient_is_softmax_difference_and_spares_the_teacher():
    student = torch.randn(4, 6, requires_grad=True)
    teacher = torch.randn(4, 6, requires_grad=True)
    distillation_loss(student, teacher).backward()
    expected = (student.softmax(1) - teacher.softmax(1)) / 4
    torch.testing.assert_close(student.grad, expected.detach())
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distillation_survives_huge_logits(dtype):
    student = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0]], dtype=dtype)
    loss = distillation_loss(student, teacher)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2e4, rel=0.01)
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_distillation_keeps_double_precision(tau):
    logits = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda both: distillation_loss(both[0], both[1], tau, detach=False), (logits,)
    )


def test_equal_logits_cost_nothing():
    logits = torch.randn(3, 5)
    assert float(distillation_loss(logits, logits)) == pytest.approx(0, abs=1e-6)


def test_a_temperature_must_be_positive():
    with pytest.raises(ValueError, match=r"tau must be > 0, got 0"):
        distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), 0)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"must both be \(N, K\), got \(1, 2\) and \(1, 3\)"):
        distillation_loss(torch.zeros(1, 2), torch.zeros(1, 3))
