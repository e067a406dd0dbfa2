"""What a study is made of: training runs, the methods they stand for, claims about two methods."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mutualnet.config import (
    Recipe,
    override,
    recipe_values,
    with_epochs,
    with_method,
    with_teaching,
)
from mutualnet.recipes import load_recipe
from mutualnet.space import Subnet

Config = tuple[float, int]
"""Width multiplier and side in pixels."""
ASKED_HERE = "asked here"
"""Source of a claim that no paper makes."""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One training run, as the words of `mutualnet train`; two that are equal are trained once."""

    recipe: str
    data: str
    """Name of the data set, which is also that of its folder."""
    epochs: int
    method: str = "independent"
    teaching: str | None = None
    width_range: tuple[float, float] | None = None
    resolutions: tuple[int, ...] | None = None
    settings: tuple[str, ...] = ()
    """Of `--set`; those after the first `common` ones are the run's own."""
    init: StudyRun | None = None
    """A run whose weights it starts from."""
    teacher: StudyRun | None = None
    """A run whose last network teaches it."""
    limit_steps: int | None = None
    """Steps to stop after; 0 scores the network that would be trained, None trains all epochs."""
    configs: tuple[Config, ...] = field(default=(), compare=False)
    """What is scored: equal runs must have equal ones."""

    @property
    def before(self) -> tuple[StudyRun, ...]:
        """Runs that must be there first."""
        return tuple(run for run in (self.init, self.teacher) if run is not None)

    @property
    def subnets(self) -> tuple[Subnet, ...]:
        """What is scored."""
        return tuple(Subnet(width_mult=width, resolution=side) for width, side in self.configs)

    def recipe_of(
        self,
        seed: int,
        *,
        data: str | None = None,
        init: Path | None = None,
        teacher: Path | None = None,
    ) -> Recipe:
        """The recipe that the words of `words` mean.

        Args:
            seed: Of every random choice.
            data: Folder that holds the data set.
            init: Where the run that it starts from is.
            teacher: Where its teacher is.
        """
        recipe = load_recipe(self.recipe)
        if data is not None:
            recipe = replace(recipe, data=replace(recipe.data, path=data))
        recipe = replace(with_epochs(recipe, self.epochs), seed=seed)
        recipe = with_method(
            recipe, self.method, width_range=self.width_range, resolutions=self.resolutions
        )
        if self.teaching is not None:
            recipe = with_teaching(recipe, self.teaching)
        settings = [*_short("model.init", init), *_short("teacher.name", teacher), *self.settings]
        return override(recipe, settings) if settings else recipe

    def words(
        self,
        seed: int,
        *,
        data: str | None = None,
        init: Path | None = None,
        teacher: Path | None = None,
        common: str = "",
    ) -> str:
        """The command line that trains it.

        Args:
            seed: Of every random choice.
            data: Folder that holds the data set.
            init: Where the run that it starts from is.
            teacher: Where its teacher is.
            common: Settings that the reader finds in `$SET`, in one text.
        """
        words = ["mutualnet", "train", self.recipe]
        if data is not None:
            words += ["--data", data]
        words += ["--epochs", str(self.epochs), "--seed", str(seed), "--method", self.method]
        if self.teaching is not None:
            words += ["--teaching", self.teaching]
        if self.width_range is not None:
            words += ["--width-range", *(f"{width:g}" for width in self.width_range)]
        if self.resolutions is not None:
            words += ["--resolutions", *map(str, self.resolutions)]
        if self.limit_steps is not None:
            words += ["--limit-steps", str(self.limit_steps)]
        for option, path in (("--init", init), ("--teacher", teacher)):
            if path is not None:
                words += [option, str(path)]
        known = common.split()
        own = [setting for setting in self.settings if setting not in known]
        text = shlex.join(words)
        if self.settings:
            text += " --set" + (" $SET" if known else "")
            text += "".join(f" {shlex.quote(setting)}" for setting in own)
        return text

    def key(self) -> str:
        """Hash of what was asked for, without seed and places: 12 hexadecimal digits.

        Not of the recipe that it makes, whose keys may get more and other names: the results of a
        run are kept beside its commit and must be found later.
        """
        asked = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        for name, run in (("init", self.init), ("teacher", self.teacher)):
            asked[name] = None if run is None else run.key()
        asked["settings"] = sorted(self.settings)
        if self.limit_steps is None:  # which runs have had longer than this key
            del asked["limit_steps"]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]

    def values(self) -> dict[str, Any]:
        """The complete settings as plain values; runs before it stand in by their own keys."""
        init = None if self.init is None else Path(self.init.key())
        values = json.loads(json.dumps(recipe_values(self.recipe_of(0, init=init))))
        for key in ("name", "description", "table", "watch", "checkpoint_minutes", "seed"):
            del values[key]
        del values["data"]["path"], values["data"]["num_workers"]
        if self.limit_steps is not None:
            values["limit_steps"] = self.limit_steps
        for name, run in (("init", self.init), ("teacher", self.teacher)):
            if run is not None:
                values[f"{name}_run"] = run.key()
        return values


def _short(key: str, path: Path | None) -> list[str]:
    return [] if path is None else [f"{key}={json.dumps(str(path))}"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A method in a comparison: its run, or one for each configuration it is trained for."""

    title: str
    runs: tuple[StudyRun, ...]
    configs: tuple[Config, ...] | None = None
    """What may be picked; None for all that is scored."""
    sides: tuple[int, ...] | None = None
    """Resolutions that may be picked; None for all."""

    def allows(self, config: Config) -> bool:
        """Whether a configuration may be picked."""
        if self.configs is not None and config not in self.configs:
            return False
        return self.sides is None or config[1] in self.sides


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says of two methods, and how it is decided.

    For every seed, and at every budget, each method scores with the configuration that its select
    split prefers within the budget; the claim's number is the mean over budgets of `ours - theirs`
    in points of test accuracy. It holds if the 95 % t interval over seeds lies above the margin,
    does not if it lies below, and is not decided else.
    """

    name: str
    group: str
    source: str
    """Paper, and its table or figure."""
    says: str
    """Direction and size, in the paper's numbers."""
    ours: Entry
    theirs: Entry
    budgets: tuple[Config, ...]
    """Configurations whose multiply-adds are the budgets."""
    margin: float = 0.0
    """Points that the difference must exceed: negative where the paper says `hardly worse`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    more_seeds: tuple[int, ...] = (3, 4)
    """Run as well where the first ones do not decide."""

    def runs(self) -> Iterator[StudyRun]:
        """Every run that it needs, each after those that must be there first."""
        known: list[StudyRun] = []
        for run in (*self.ours.runs, *self.theirs.runs):
            for needed in _with_before(run):
                if needed not in known:
                    known.append(needed)
                    yield needed


def _with_before(run: StudyRun) -> Iterator[StudyRun]:
    for earlier in run.before:
        yield from _with_before(earlier)
    yield run
