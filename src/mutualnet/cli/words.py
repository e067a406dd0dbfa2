"""The commands and what each of them takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from mutualnet import __version__
from mutualnet.cli.parser import Parser, number, positive, whole
from mutualnet.methods import METHODS
from mutualnet.teaching import TEACHINGS

_DESCRIPTION = """Train one network, run it at any budget.

  mutualnet demo                               a first look, on embedded images
  mutualnet recipes                            what can be trained
  mutualnet train RECIPE --data DIR --out RUN  train once, for every width and resolution
  mutualnet table RUN                          score and time every sub-network
  mutualnet search RUN                         add sub-networks whose stages differ in width
  mutualnet predict RUN IMAGE --budget 150M    classify with the best one within a budget
  mutualnet report RUN                         all about a run, as one HTML file
  mutualnet export RUN -o FILE.mutualnet       one file for devices, which need no PyTorch
  mutualnet run FILE.mutualnet IMAGE           classify there, within a --budget too
  mutualnet measure FILE.mutualnet             time every configuration on this device
  mutualnet evaluate FILE.mutualnet DATA       score them there, beside the table's scores
  mutualnet info MODEL                         what of a model can be made narrower
  mutualnet plan MODEL --budgets 5ms,150M      what to train for some budgets, on this machine
"""


def _demo(parser: Parser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="directory of the run (%(default)s)"
    )


def _train(parser: Parser) -> None:
    parser.add_argument(
        "recipe",
        type=str,
        help="a name from `mutualnet recipes`, a YAML file, or package.module:function",
    )
    parser.add_argument(
        "--out", type=Path, help="directory of the run; must not exist (runs/RECIPE-TIME)"
    )
    parser.add_argument("--data", type=str, help="folder of the images")
    parser.add_argument(
        "--model",
        type=str,
        help="network: timm:NAME, torchvision:NAME, package.module:function, one of ours, or a "
        "timm NAME; model.kwargs and model.heads are then its defaults (model.name)",
    )
    parser.add_argument(
        "--epochs", type=positive, help="passes over the train images (optimizer.epochs)"
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        help="images of a step, over all processes; the learning rate stays (data.batch_size)",
    )
    parser.add_argument(
        "--optimizer",
        type=str,
        help="what moves the weights of every network: sgd, adamw, lamb, rmsprop and others; it "
        "needs a --lr of its own (optimizer.name)",
    )
    parser.add_argument(
        "--lr", type=number, help="highest learning rate, of every network (optimizer.lr)"
    )
    parser.add_argument(
        "--workers",
        type=whole,
        help="processes that load images; 0: in the training process (data.num_workers)",
    )
    parser.add_argument("--seed", type=whole, help="of every random choice (seed)")
    parser.add_argument(
        "--resume", action="store_true", help="resume the unfinished run of --out, if any"
    )
    parser.add_argument(
        "--method",
        type=str,
        help=f"which sub-networks a step trains, and on what: {', '.join(METHODS)}",
    )
    parser.add_argument(
        "--teaching",
        type=str,
        help=f"what full networks learn from besides labels: {', '.join(TEACHINGS)}",
    )
    parser.add_argument(
        "--distill",
        choices=["on", "off"],
        help="on: narrower sub-networks learn from the largest one's output; off: from labels",
    )
    parser.add_argument(
        "--width-range",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="smallest and largest width multiplier; above 1 the model as built is the largest",
    )
    parser.add_argument(
        "--resolutions", type=positive, nargs="+", help="sides of the inputs in pixels"
    )
    parser.add_argument(
        "--depths",
        type=number,
        nargs="+",
        help="shares of the residual blocks that run, 1 for all of them (space.depths)",
    )
    parser.add_argument(
        "--frames", type=positive, nargs="+", help="frames of the input clips (space.frames)"
    )
    parser.add_argument(
        "--init",
        type=str,
        help="weights that the (first) network starts from: timm:NAME (pretrained), a run, a file",
    )
    parser.add_argument(
        "--sort-channels",
        choices=["auto", "none", "l1", "l2", "taylor"],
        help="by what the channels of --init's weights are put in order first, the most important "
        "ones in front, so that narrower networks keep them; auto: by l1, unless the source "
        "has trained narrower networks already (model.sort_channels)",
    )
    parser.add_argument(
        "--teacher", type=str, help="trained network that all learn from: a run, or timm:NAME"
    )
    _trust(parser, "the teacher's run")
    parser.add_argument(
        "--limit-steps",
        type=whole,
        help="stop after this many steps; 0: write the network as it begins",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="take a few steps and tell time, memory and disk; writes nothing",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        type=str,
        default=[],
        help="change values of the recipe: --set optimizer.lr=0.1 data.batch_size=64",
    )


def _trust(parser: Parser, whose: str) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help=f"call functions that {whose} names, which may do anything: only for makers you trust",
    )


def _model(parser: Parser, also: str = "") -> None:
    """A network by name, and the size of its classifier."""
    parser.add_argument(
        "model",
        type=str,
        help="timm:NAME, torchvision:NAME, package.module:function, one of ours, or a timm NAME"
        + also,
    )
    parser.add_argument(
        "--num-classes", type=positive, default=1000, help="outputs of the classifier (1000)"
    )


def _plan(parser: Parser) -> None:
    _model(parser)
    parser.add_argument(
        "--budgets",
        type=str,
        required=True,
        help="what it must run within, separated by commas: 5ms,20ms,150M",
    )
    parser.add_argument(
        "--resolutions",
        type=positive,
        nargs="+",
        default=[224, 192, 160, 128, 96],
        help="sides of the inputs to consider, in pixels (224 192 160 128 96)",
    )


def _table(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="directory that `mutualnet train` wrote")
    parser.add_argument(
        "--data", type=str, help="folder of the images, if they are elsewhere now than in training"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="finish every sub-network, in fp32, and drop none early",
    )
    parser.add_argument(
        "--add",
        type=str,
        nargs="+",
        metavar="SUBNET",
        help="add sub-networks to the table that is there, as YAML: '{width_mult: 0.4, resolution: "
        "24}', '{stage_widths: [1, 0.75, 0.5]}'",
    )
    _trust(parser, "the run")


def _budget(parser: Parser) -> None:
    parser.add_argument(
        "--budget",
        type=str,
        action="append",
        default=[],
        help="most multiply-adds (150M, 1.5G) or highest latency (8ms); given several times, all "
        "of them hold; without it the best of all",
    )


def _predict(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="directory with a query table")
    parser.add_argument(
        "images",
        type=str,
        nargs="+",
        help="image files of any size and mode, or videos if it was trained on these; folders of "
        "them, or quoted patterns ('a/**/*.jpg')",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        help="write a copy with what was found drawn on it: a file for one input, a folder for "
        "several",
    )
    _budget(parser)
    _trust(parser, "the run")
    _output(parser)


def _output(parser: Parser) -> None:
    output = parser.add_mutually_exclusive_group()
    for name, what in (("json", "one JSON document"), ("csv", "one CSV table")):
        output.add_argument(
            f"--{name}",
            dest="output",
            action="store_const",
            const=name,
            default="text",
            help=f"write {what} for programs, with all classes, to standard output",
        )


def _report(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="directory that `mutualnet train` wrote")
    parser.add_argument(
        "-o", "--out", type=Path, help="HTML file to write (report.html in the run)"
    )


def _export(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="directory with a query table")
    parser.add_argument(
        "-o", "--out", type=Path, help="file to write, NAME.mutualnet (named like the run)"
    )
    parser.add_argument(
        "--configs",
        type=str,
        default="front",
        help="what to export: front (the best one for each budget), all, a count of the front's, "
        "or names as in the table, 0.5x160,1x224 (%(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=["onnx", "openvino", "torch"],
        help="one configuration by itself, in this format, in place of an artifact",
    )
    parser.add_argument(
        "--data",
        type=str,
        help="folder of the images, if they are elsewhere now; a few of them verify the export",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="add quantised variants, scored and timed like the others, and keep those on the "
        "front of score over latency",
    )
    parser.add_argument(
        "--sign",
        type=Path,
        metavar="KEY",
        help="sign the artifact by this Ed25519 key (`ssh-keygen -t ed25519 -N '' -f KEY`)",
    )
    parser.add_argument(
        "--no-measure",
        dest="measure",
        action="store_false",
        help="do not time the configurations on this machine",
    )
    _trust(parser, "the run")


def _artifact(parser: Parser) -> None:
    parser.add_argument("artifact", type=Path, help="file that `mutualnet export` wrote")


def _public_key(parser: Parser) -> None:
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="Ed25519 key of whoever must have signed the artifact",
    )


def _run(parser: Parser) -> None:
    _artifact(parser)
    _public_key(parser)
    parser.add_argument(
        "images",
        type=str,
        nargs="+",
        help="image files of any size and mode, folders of them, or quoted patterns ('a/**/*.jpg')",
    )
    _budget(parser)
    _threads(parser)
    _output(parser)


def _evaluate(parser: Parser) -> None:
    _artifact(parser)
    _public_key(parser)
    parser.add_argument(
        "data",
        type=Path,
        help="folder with one folder for each class, or with such folders in test/ or val/; or an "
        ".npz with the arrays `images` uint8 (N, H, W, 3) and `labels` (N), or (N, K) of 0 and 1",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--budget",
        type=str,
        action="append",
        default=[],
        help="score the best configuration within it alone: most multiply-adds (150M) or highest "
        "latency (8ms); given several times, all of them hold",
    )
    which.add_argument(
        "--configs", type=str, help="score these: names as in the table, 0.5x160,1x224 (all)"
    )
    _threads(parser)
    parser.add_argument("--json", action="store_true", help="write one JSON document for programs")


def _threads(parser: Parser) -> None:
    parser.add_argument(
        "--threads", type=positive, help="threads of one inference (one for each core)"
    )


def _measure(parser: Parser) -> None:
    _artifact(parser)
    parser.add_argument(
        "--threads", type=positive, default=1, help="threads of one inference (%(default)s)"
    )
    parser.add_argument(
        "--batch", type=positive, default=1, help="images of one inference (%(default)s)"
    )
    parser.add_argument(
        "--runs",
        type=positive,
        default=50,
        help="timed inferences of each configuration (%(default)s)",
    )


def _info(parser: Parser) -> None:
    _model(parser, "; or a file that `mutualnet export` wrote, to list what it holds")
    parser.add_argument(
        "--width-range",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=[0.25, 1.0],
        help="smallest and largest width multiplier (0.25 1); above 1 the model as built is the "
        "largest",
    )
    parser.add_argument(
        "--resolutions",
        type=positive,
        nargs="+",
        default=[224, 192, 160, 128],
        help="sides of the inputs in pixels (224 192 160 128)",
    )
    parser.add_argument(
        "--depths",
        type=number,
        nargs="+",
        default=[1.0],
        help="shares of the residual blocks that run (1, all of them)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        nargs="+",
        metavar="N",
        help="frames of the clips, for networks of videos (16 where the first convolution is 3-D)",
    )


def _search(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="directory with a query table")
    parser.add_argument(
        "--method",
        choices=["greedy", "evolutionary"],
        default="greedy",
        help="from the largest step by step to the smallest, or generations within each budget",
    )
    parser.add_argument(
        "--by",
        choices=["stage", "group"],
        default="stage",
        help="whether each stage has a width of its own, or each channel group (%(default)s)",
    )
    parser.add_argument(
        "--budgets",
        type=str,
        nargs="+",
        default=[],
        help="multiply-adds: 150M 50M; by default the whole range",
    )
    for name, default, what in (
        ("evaluations", 200, "sub-networks that may be tried"),
        ("widths", 7, "widths between the ends of the space"),
        ("images", 1000, "select images behind the score of a try"),
    ):
        parser.add_argument(
            f"--{name}", type=positive, default=default, help=f"{what} (%(default)s)"
        )
    parser.add_argument("--seed", type=whole, default=0, help="of an evolutionary search (0)")
    parser.add_argument(
        "--data", type=str, help="folder of the images, if they are elsewhere now than in training"
    )
    _trust(parser, "the run")


_COMMANDS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "demo": ("train, tabulate and predict on embedded images", _demo),
    "recipes": ("list what can be trained", lambda parser: None),
    "train": ("train by a recipe", _train),
    "table": ("score and time every sub-network of a run", _table),
    "search": ("find sub-networks that beat those of one width, and add them", _search),
    "predict": ("classify images within a budget", _predict),
    "report": ("write all about a run into one HTML file", _report),
    "export": ("write one file that a device runs at any budget", _export),
    "run": ("classify images with an exported file, without PyTorch", _run),
    "measure": ("time an exported file's configurations on this device", _measure),
    "evaluate": ("score an exported file on labelled images, without PyTorch", _evaluate),
    "plan": ("which widths and resolutions meet budgets on this machine", _plan),
    "info": ("what of a model is elastic, what keeps its size, what it costs", _info),
}


def make_parser() -> Parser:
    """The parser of all commands, which leaves the name of the chosen one in `command`."""
    layout = argparse.RawDescriptionHelpFormatter  # keeps the description's lines
    parser = Parser(prog="mutualnet", description=_DESCRIPTION, formatter_class=layout)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, dest="command", title="commands")
    for name, (summary, add_arguments) in _COMMANDS.items():
        text = summary[0].upper() + summary[1:] + "."
        add_arguments(commands.add_parser(name, help=summary, description=text, allow_abbrev=False))
    return parser
