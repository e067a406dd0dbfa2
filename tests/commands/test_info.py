"""`mutualnet info`: what of a model is elastic, and what it costs."""

from __future__ import annotations

import pytest

from mutualnet.cli import main


def test_info_needs_no_resolution_of_224(capsys):
    assert main(["info", "wrn16_1", "--num-classes", "10", "--resolutions", "16", "8"]) == 0
    assert "8 px" in capsys.readouterr().out


def test_info_says_which_width_the_model_has_where_that_is_not_1(capsys):
    words = ["info", "wrn16_1", "--num-classes", "10", "--resolutions", "16", "--width-range"]
    assert main([*words, "0.5", "2"]) == 0
    assert (
        "the model as built is width 2: width 1 is 0.5 of its channels" in capsys.readouterr().out
    )
    assert main([*words, "0.5", "1"]) == 0
    assert "as built" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["torchvision:r3d_18", "--resolutions", "32", "--frames", "4"], "VideoResNet: 12 elastic"),
        (["torchvision:lraspp_mobilenet_v3_large", "--resolutions", "64"], "LRASPP: 30 elastic"),
        (["timm:rexnet_100", "--resolutions", "64"], "rexnet_100: 46 elastic"),
    ],
    ids=["clips", "dictionary of maps", "sliced channels"],
)
def test_info_tells_what_is_elastic_in_any_kind_of_network(capsys, words, expected):
    assert main(["info", *words]) == 0
    out = capsys.readouterr().out
    assert expected in out
    assert "its channels are the model's output" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["resnet18", "--frames", "4"], "must run on clips of shape (3, 4, 224, 224)"),
        (["torchvision:r3d_19"], "no network is called 'torchvision:r3d_19'. Did you mean"),
        (["resnet18", "--frames", "0"], "--frames"),
    ],
)
def test_info_says_in_one_line_what_it_cannot_take(capsys, words, expected):
    try:
        status = main(["info", *words])
    except SystemExit as end:
        status = end.code
    err = capsys.readouterr().err
    assert status == 2
    assert expected in err
    assert "Traceback" not in err
