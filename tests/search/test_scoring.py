"""The score of a try."""

from __future__ import annotations

import torch

from mutualnet.search.search import search_subnets
from mutualnet.tasks.classification import Classification


def test_a_real_try_leaves_the_bank_alone_and_scores_what_a_table_would(net):
    batches = [(torch.randn(16, 3, 16, 16), torch.randint(4, (16,))) for _ in range(2)]
    before = dict(net.bank)
    result = search_subnets(
        net, task=Classification(), train_batches=batches, select_batches=batches,
        num_widths=2, evaluations=4, num_calibration_samples=32,
    )  # fmt: skip
    assert dict(net.bank) == before
    assert len(result.evaluations) == 4
    assert all(0 <= found.score <= 100 for found in result.evaluations)
