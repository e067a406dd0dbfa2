"""What is compared on nuclei, and the section that is written about it."""

from __future__ import annotations

from benchmarks.objects import ALONE, BATCH_SIZE, EPOCHS, recipes
from benchmarks.objects_page import section


def test_all_networks_train_alike_and_their_places_are_compared():
    found = recipes()
    assert list(found) == ["mutualnet", "us_net", *(f"alone {w:g}x{side}" for w, side in ALONE)]
    elastic = found["mutualnet"]
    places = {(s.width_mult, s.resolution) for s in elastic.space.grid()}
    assert places >= set(ALONE)
    for name, recipe in found.items():
        optimizer = (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.epochs)
        assert optimizer == ("adamw", elastic.optimizer.lr, EPOCHS)
        assert recipe.data == elastic.data
        assert recipe.data.batch_size == BATCH_SIZE
        assert recipe.model == elastic.model
        assert not recipe.method.value.distills
        if name.startswith("alone"):
            (subnet,) = recipe.space.grid()
            assert (subnet.width_mult, subnet.resolution) in ALONE


def _run(seconds, *rows):
    return {
        "cpu_seconds": seconds,
        "steps": 7,
        "images": {"train": 20, "test": 8},
        "rows": [
            {"width": w, "side": side, "macs": macs * 10**6, "ap": ap, "standard_error": 0.25}
            for w, side, macs, ap in rows
        ],
    }


def test_the_section_sets_all_methods_side_by_side():
    found = {
        "epochs": 2,
        "batch_size": 3,
        "seed": 0,
        "runs": {
            "mutualnet": _run(40, (1.0, 192, 300, 5.12), (0.25, 96, 9, 2.0)),
            "us_net": _run(50, (1.0, 192, 300, 4.0), (0.25, 96, 9, 0.5)),
            "alone 1x192": _run(20, (1.0, 192, 300, 6.0)),
            "alone 0.25x96": _run(6, (0.25, 96, 9, 1.0)),
        },
    }
    text = "\n".join(section(found))
    assert "on 20 images of\nnuclei, for 2 epochs in batches of 3 (7 steps)" in text
    assert "| 1x192 | 300.0 | 5.1 ± 0.2 | 4.0 ± 0.2 | 6.0 ± 0.2 |" in text
    assert "| 0.25x96 | 9.0 | 2.0 ± 0.2 | 0.5 ± 0.2 | 1.0 ± 0.2 |" in text
    assert "trained alone at 1 of 2 places,\nand above US-Net at 2 of 2. One seed and 7\n" in text
    assert "40 s for MutualNet, 50 s for US-Net, 26 s for all trained alone" in text
