"""The BN bank on disk."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mutualnet.supernet.bn_bank import BankKey, BNBank, BNStatistics

KEY = BankKey((8, 16), 32)


def _statistics(version: int = 1) -> BNStatistics:
    return BNStatistics(
        mean=torch.randn(5),
        var=torch.rand(5),
        num_samples=64,
        batch_size=16,
        data_id="d",
        weights_version=version,
    )


@pytest.fixture
def saved(tmp_path):
    bank = BNBank()
    bank.put(KEY, _statistics())
    bank.put(BankKey((8, 16), 24, num_frames=4), _statistics())
    bank.put(BankKey((4, 8), 32), _statistics(version=0))
    path = tmp_path / "bank.safetensors"
    bank.save(path, weights_hash="w", weights_version=1)
    return bank, path


def test_fresh_entries_survive_a_round_trip_and_stale_ones_are_left_out(saved):
    bank, path = saved
    other = BNBank()
    other.load(path, weights_hash="w", weights_version=7)
    assert set(other) == {KEY, BankKey((8, 16), 24, num_frames=4)}
    for key, statistics in other.items():
        assert torch.equal(statistics.mean, bank[key].mean)
        assert torch.equal(statistics.var, bank[key].var)
        assert statistics.weights_version == 7
        assert (statistics.num_samples, statistics.batch_size, statistics.data_id) == (64, 16, "d")


def test_statistics_of_other_weights_are_refused(saved):
    with pytest.raises(ValueError, match="belongs to other weights"):
        BNBank().load(saved[1], weights_hash="x", weights_version=1)


def test_a_damaged_file_is_refused(saved):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="is not a readable BN bank"):
        BNBank().load(path, weights_hash="w", weights_version=1)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a readable BN bank"):
        BNBank().load(tmp_path / "none", weights_hash="w", weights_version=1)


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is not a BN bank"):
        BNBank().load(tmp_path / "other.safetensors", weights_hash="w", weights_version=1)


def test_another_format_version_is_refused(tmp_path):
    header = {"format": "mutualnet.bn_bank", "version": "99", "weights_hash": "w", "entries": "[]"}
    save_file({"a": torch.zeros(1)}, tmp_path / "new.safetensors", metadata=header)
    with pytest.raises(ValueError, match="has BN bank format 99, this version reads 1"):
        BNBank().load(tmp_path / "new.safetensors", weights_hash="w", weights_version=1)


@pytest.mark.parametrize("name", ["weights_hash", "entries"])
def test_a_header_that_lacks_a_field_is_refused(saved, name):
    with safe_open(saved[1], framework="pt") as file:
        header = dict(file.metadata())
    del header[name]
    save_file({"a": torch.zeros(1)}, saved[1], metadata=header)
    with pytest.raises(ValueError, match="Calibrate again"):
        BNBank().load(saved[1], weights_hash="w", weights_version=1)


def test_entries_without_their_tensors_are_refused_and_none_is_taken(saved):
    with safe_open(saved[1], framework="pt") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in ("0.mean", "0.var")}
    save_file(tensors, saved[1], metadata=header)
    bank = BNBank()
    with pytest.raises(ValueError, match=r"does not fit its tensors \(KeyError: '1.mean'\)"):
        bank.load(saved[1], weights_hash="w", weights_version=1)
    assert len(bank) == 0
