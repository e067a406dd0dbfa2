"""The command line: its words, and one clear line for what a user got wrong."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from mutualnet.messages import LogFormatter, ReportedElsewhereError, printable
from mutualnet.methods import METHODS
from mutualnet.teaching import TEACHINGS

_FAILED, _USER_ERROR, _INTERRUPTED = 1, 2, 130
_NO_MEMORY = "out of memory|alloc.* memory"
"""How PyTorch reports it."""

_DESCRIPTION = """Train one network, run it at any budget.

  mutualnet demo                               a first look, on embedded images
  mutualnet recipes                            what can be trained
  mutualnet train RECIPE --data DIR --out RUN  train once, for every width and resolution
  mutualnet table RUN                          score and time every sub-network
  mutualnet predict RUN IMAGE --budget 150M    classify with the best one within a budget
  mutualnet info MODEL                         what of a model can be made narrower
  mutualnet plan MODEL --budgets 5ms,150M      what to train for some budgets, on this machine
"""


class _WordsError(Exception):
    """The words of the command line are none that it knows."""


class _Parser(argparse.ArgumentParser):
    """Leaves it to its caller to say what is wrong, and says it in our words."""

    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ").replace(": must be ", " must be ", 1)
        text = re.sub(r": expected (.+) argument(s?)$", r" needs \1 value\2", text)
        raise _WordsError(f"{text}. See `{self.prog} --help`.")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _demo(parser: _Parser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="directory of the run (%(default)s)"
    )


def _train(parser: _Parser) -> None:
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
        "--epochs", type=_positive, help="passes over the train images (optimizer.epochs)"
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        help="images of a step, over all processes; the learning rate stays (data.batch_size)",
    )
    parser.add_argument(
        "--optimizer",
        type=str,
        help="what moves the weights of every network: sgd, adamw, lamb, rmsprop and others; it "
        "needs a --lr of its own (optimizer.name)",
    )
    parser.add_argument(
        "--lr", type=_number, help="highest learning rate, of every network (optimizer.lr)"
    )
    parser.add_argument(
        "--workers",
        type=_whole,
        help="processes that load images; 0: in the training process (data.num_workers)",
    )
    parser.add_argument("--seed", type=_whole, help="of every random choice (seed)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the unfinished run of --out, if any"
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
        type=_number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="smallest and largest width multiplier",
    )
    parser.add_argument(
        "--resolutions", type=_positive, nargs="+", help="sides of the inputs in pixels"
    )
    parser.add_argument(
        "--init",
        type=str,
        help="weights that the (first) network starts from: timm:NAME (pretrained), a run, a file",
    )
    parser.add_argument(
        "--teacher", type=str, help="trained network that all learn from: a run, or timm:NAME"
    )
    _trust(parser, "the teacher's run")
    parser.add_argument("--limit-steps", type=_positive, help="stop after this many steps")
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


def _trust(parser: _Parser, whose: str) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help=f"call functions that {whose} names, which may do anything: only for makers you trust",
    )


def _model(parser: _Parser) -> None:
    """A network by name, and the size of its classifier."""
    parser.add_argument(
        "model",
        type=str,
        help="timm:NAME, torchvision:NAME, package.module:function, one of ours, or a timm NAME",
    )
    parser.add_argument(
        "--num-classes", type=_positive, default=1000, help="outputs of the classifier (1000)"
    )


def _plan(parser: _Parser) -> None:
    _model(parser)
    parser.add_argument(
        "--budgets",
        type=str,
        required=True,
        help="what it must run within, separated by commas: 5ms,20ms,150M",
    )
    parser.add_argument(
        "--resolutions",
        type=_positive,
        nargs="+",
        default=[224, 192, 160, 128, 96],
        help="sides of the inputs to consider, in pixels (224 192 160 128 96)",
    )


def _table(parser: _Parser) -> None:
    parser.add_argument("run", type=Path, help="directory that `mutualnet train` wrote")
    parser.add_argument(
        "--full",
        action="store_true",
        help="finish every sub-network, in fp32, and drop none early",
    )
    _trust(parser, "the run")


def _predict(parser: _Parser) -> None:
    parser.add_argument("run", type=Path, help="directory with a query table")
    parser.add_argument(
        "images",
        type=str,
        nargs="+",
        help="image files of any size and mode, folders of them, or quoted patterns ('a/**/*.jpg')",
    )
    parser.add_argument(
        "--budget",
        type=str,
        action="append",
        help="most multiply-adds (150M, 1.5G) or highest latency (8ms); given several times, all "
        "of them hold; without it the best of all",
    )
    _trust(parser, "the run")
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


def _info(parser: _Parser) -> None:
    _model(parser)
    parser.add_argument(
        "--width-range",
        type=_number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=[0.25, 1.0],
        help="smallest and largest width multiplier (0.25 1)",
    )
    parser.add_argument(
        "--resolutions",
        type=_positive,
        nargs="+",
        default=[224, 192, 160, 128],
        help="sides of the inputs in pixels (224 192 160 128)",
    )


_COMMANDS: dict[str, tuple[str, Callable[[_Parser], None]]] = {
    "demo": ("train, tabulate and predict on embedded images", _demo),
    "recipes": ("list what can be trained", lambda parser: None),
    "train": ("train by a recipe", _train),
    "table": ("score and time every sub-network of a run", _table),
    "predict": ("classify images within a budget", _predict),
    "plan": ("which widths and resolutions meet budgets on this machine", _plan),
    "info": ("what of a model is elastic, what is frozen, what it costs", _info),
}


def _parser() -> _Parser:
    layout = argparse.RawDescriptionHelpFormatter  # keeps the description's lines
    parser = _Parser(prog="mutualnet", description=_DESCRIPTION, formatter_class=layout)
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, dest="command", title="commands")
    for name, (summary, add_arguments) in _COMMANDS.items():
        text = summary[0].upper() + summary[1:] + "."
        add_arguments(commands.add_parser(name, help=summary, description=text, allow_abbrev=False))
    return parser


def _with_negative_values(words: Sequence[str]) -> list[str]:
    """Join `--budget -5M` to one word: argparse takes all but plain numbers for an option then."""
    joined: list[str] = []
    for word in words:
        is_value = re.match(r"-[\d.]", word) and not re.fullmatch(r"-\d*\.?\d+", word)
        if is_value and joined and re.fullmatch(r"--[\w-]+", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _version() -> str:
    from mutualnet import __version__

    return __version__


# What follows imports late: `mutualnet --help` must neither wait for PyTorch nor need it.


def _run_demo(words: argparse.Namespace) -> None:
    from mutualnet.commands import demo

    demo(words.out)


def _run_recipes(words: argparse.Namespace) -> None:
    from mutualnet.commands import list_recipes

    list_recipes()


def _run_train(words: argparse.Namespace) -> None:
    from mutualnet.commands import start_training
    from mutualnet.config import RecipeChanges

    changes = RecipeChanges(
        data=words.data,
        epochs=words.epochs,
        seed=words.seed,
        method=words.method,
        teaching=words.teaching,
        optimizer=words.optimizer,
        lr=words.lr,
        model=words.model,
        width_range=None if words.width_range is None else tuple(words.width_range),
        resolutions=None if words.resolutions is None else tuple(words.resolutions),
        settings=[*_shorthands(words), *words.settings],
    )
    start_training(
        words.recipe,
        changes,
        out=words.out,
        limit_steps=words.limit_steps,
        is_dry_run=words.dry_run,
        resume=words.resume,
        trust=words.trust,
    )


def _run_table(words: argparse.Namespace) -> None:
    from mutualnet.commands import make_table

    make_table(words.run, is_full=words.full, trust=words.trust)


def _run_predict(words: argparse.Namespace) -> None:
    from mutualnet.commands import predict

    predict(words.run, words.images, budget=words.budget, output=words.output, trust=words.trust)


def _run_plan(words: argparse.Namespace) -> None:
    from mutualnet.commands import plan

    plan(
        words.model,
        budgets=words.budgets,
        resolutions=tuple(words.resolutions),
        num_classes=words.num_classes,
    )


def _run_info(words: argparse.Namespace) -> None:
    from mutualnet.commands import info

    info(
        words.model,
        width_range=tuple(words.width_range),
        resolutions=tuple(words.resolutions),
        num_classes=words.num_classes,
    )


_RUN: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _run_demo,
    "recipes": _run_recipes,
    "train": _run_train,
    "table": _run_table,
    "predict": _run_predict,
    "plan": _run_plan,
    "info": _run_info,
}


def _shorthands(values: argparse.Namespace) -> list[str]:
    """Options that are short for single values of the recipe."""
    settings = []
    for key, value in (
        ("model.init", values.init),
        ("teacher.name", values.teacher),
        ("data.batch_size", values.batch_size),
        ("data.num_workers", values.workers),
    ):
        if value is not None:
            settings.append(f"{key}={json.dumps(value)}")
    if values.distill is not None:
        settings.append(f"method.distill={'true' if values.distill == 'on' else 'false'}")
    return settings


def _complain(error: BaseException | str) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Traceback" in str(error):  # a loader's worker reports all of it; its last line says what
        lines = [lines[-1].partition("Error: ")[2] or lines[-1]]
    notes = getattr(error, "__notes__", [])
    print(printable(" ".join(["mutualnet:", *lines, *notes])), file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    What a user can cause (a wrong word, a missing file, a budget that nothing meets) ends with one
    line and exit status 2. Errors of our own keep their traceback.

    Args:
        arguments: Words after `mutualnet`; those of the process by default.

    Returns:
        Exit status: 0, 1 if training failed, 2 for a user's mistake, 130 if interrupted.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for chatty in ("matplotlib", "PIL", "fsspec", "lightning", "py.warnings"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        words = _parser().parse_args(_with_negative_values(given))
        _RUN[words.command](words)
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", [])
        print(printable(" ".join(["mutualnet: interrupted.", *notes])), file=sys.stderr)
        return _INTERRUPTED
    except _WordsError as error:
        _complain(error)
        return _USER_ERROR
    except ReportedElsewhereError:
        return _USER_ERROR
    except (ValueError, FileNotFoundError, PermissionError, IsADirectoryError) as error:
        _complain(error)
        return _USER_ERROR
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mutualnet":
            raise
        _complain(
            f"{error.name} is not installed. The base install is for devices; to train and for all "
            "commands: pip install 'mutualnet[train]'"
        )
        return _USER_ERROR
    except OSError as error:  # a full disk, a vanished mount
        _complain(error)
        return _FAILED
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or re.search(_NO_MEMORY, str(error)):
            lines = str(error).splitlines() or ["none is left"]
            _complain(f"memory is exhausted ({lines[0]}). Use smaller images or batches.")
            return _USER_ERROR
        if not type(error).__module__.startswith("mutualnet."):
            raise
        _complain(error)
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
