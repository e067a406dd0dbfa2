"""The rows of a run's epochs as files: CSV, and TensorBoard's."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mutualnet.training.epoch_log import EpochLog, read_epoch_log
from mutualnet.training.history import History

FIRST = {"epoch": 1.0, "step": 2.0, "ce": 0.5}
SECOND = {"epoch": 2.0, "step": 4.0, "ce": 0.25, "select_largest": 40.0}


def _shown(folder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    names = events.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in names}


def test_rows_are_read_back_and_may_gain_columns(tmp_path):
    assert read_epoch_log(tmp_path) == []
    history = History()
    with EpochLog(tmp_path, history) as log:
        history.rows.append(dict(FIRST))
        log.write()
        assert read_epoch_log(tmp_path) == [FIRST]
        history.rows.append({name: SECOND[name] for name in FIRST})
        log.write()
        history.rows[-1]["select_largest"] = 40.0  # scores come after the losses
        log.write()
    assert read_epoch_log(tmp_path) == [FIRST, SECOND]
    shown = _shown(tmp_path)
    assert shown["ce"] == [(2, 0.5), (4, 0.25)]
    assert shown["select_largest"] == [(4, 40.0)]


def test_what_was_written_after_the_checkpoint_is_taken_back(tmp_path):
    history = History()
    with EpochLog(tmp_path, history) as log:
        for row in (FIRST, SECOND):
            history.rows.append(dict(row))
            log.write()
    resumed = History()
    resumed.rows.append(dict(FIRST))
    with EpochLog(tmp_path, resumed, start=2) as log:
        assert read_epoch_log(tmp_path) == [FIRST]
        resumed.rows.append({**SECOND, "ce": 0.125})
        log.write()
    assert [row["ce"] for row in read_epoch_log(tmp_path)] == [0.5, 0.125]
    assert _shown(tmp_path)["ce"] == [(2, 0.5), (4, 0.125)]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,ce\n1,x\n")
    with pytest.raises(ValueError, match=r"metrics.csv must be rows of numbers .* Remove it"):
        read_epoch_log(tmp_path)
