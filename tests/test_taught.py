"""A fixed teacher beside the labels."""

import pytest
import torch
import torch.nn.functional as F

from mutualnet.space import Subnet
from mutualnet.tasks import Classification, Taught


@pytest.mark.parametrize(("alpha", "tau"), [(0.0, 1.0), (0.5, 1.0), (0.9, 4.0), (1.0, 2.0)])
def test_the_loss_is_hintons_and_so_is_its_gradient(alpha, tau):
    torch.manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    teacher, labels = torch.randn(6, 5, dtype=torch.float64), torch.randint(5, (6,))
    task = Taught(task=Classification(), teacher_task=Classification(tau=tau), alpha=alpha)
    loss = task.supervised_loss(logits, ((torch.zeros(6, 1), labels), teacher))
    (found,) = torch.autograd.grad(loss, logits)
    p, q = (teacher / tau).softmax(1), (logits / tau).softmax(1)
    hard = -logits.log_softmax(1)[torch.arange(6), labels].mean()
    soft = (p * (p / q).log()).sum(1).mean() * tau**2
    expected = (1 - alpha) * hard + alpha * soft
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_apprentice_is_half_of_each_at_temperature_one():
    """Up to a constant of the teacher, half the cross entropy with each kind of target."""
    torch.manual_seed(0)
    logits = torch.randn(4, 3, requires_grad=True)
    teacher, labels = torch.randn(4, 3), torch.randint(3, (4,))
    task = Taught(task=Classification(), teacher_task=Classification())
    loss = task.supervised_loss(logits, ((torch.zeros(4, 1), labels), teacher))
    both = 0.5 * F.cross_entropy(logits, labels) + 0.5 * F.cross_entropy(logits, teacher.softmax(1))
    (found,), (expected,) = torch.autograd.grad(loss, logits), torch.autograd.grad(both, logits)
    torch.testing.assert_close(found, expected)


def test_everything_else_is_the_tasks():
    task = Taught(task=Classification(), teacher_task=Classification(tau=3.0))
    images, labels, teacher = torch.randn(2, 3, 8, 8), torch.tensor([0, 1]), torch.randn(2, 4)
    batch = (images, labels), teacher
    scaled = task.scale(batch, Subnet(resolution=4))
    assert task.inputs(scaled).shape == (2, 3, 4, 4)
    assert scaled[1] is teacher
    assert task.score_name == Classification.score_name
    logits = torch.randn(2, 4)
    assert task.distill_loss(logits, teacher) == Classification().distill_loss(logits, teacher)
    assert task.new_score().__class__ is Classification().new_score().__class__
    first, second = task.split(batch, 2)
    assert first[0][0].shape == (1, 3, 8, 8)
    assert torch.equal(second[1], teacher[1:])
