"""What gives something else than PyTorch is not written."""

from __future__ import annotations

import pytest

from mutualnet.export import artifact_writer as artifact_module
from mutualnet.export import write_artifact
from tests.small_artifact import (
    small_images,
    small_info,
    small_supernet,
    small_table,
)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("configuration", r"the graph of .* must give what PyTorch gives within 0\.0001, got a"),
        ("scaling", r"the graph's scaling must give what PyTorch gives within 0\.001, got a"),
    ],
)
def test_a_graph_that_gives_something_else_is_not_written(tmp_path, monkeypatch, wrong, message):
    net = small_supernet()
    table, out = small_table(net), tmp_path / "m.mutualnet"
    inner = artifact_module.outputs_of_graph
    monkeypatch.setattr(
        artifact_module,
        "outputs_of_graph",
        lambda path, *others: inner(path, *others) + path.name.startswith(wrong),
    )
    with pytest.raises(ValueError, match=message):
        write_artifact(out, net, table, table.rows, small_info(), small_images())
    assert list(tmp_path.iterdir()) == []
