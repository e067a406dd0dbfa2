"""How far "any CNN" holds: convert one network of every family and check what comes out.

    python benchmarks/zoo.py                  # every network of zoo.txt that zoo.json lacks
    python benchmarks/zoo.py NAME...          # these, again; kept if zoo.txt has them
    python benchmarks/zoo.py --page           # write docs/support.md from zoo.json
    python benchmarks/zoo.py --check          # exit status 1 if a network is wrong, or not tried

Names are timm's, or `torchvision:NAME`. Weights are random; each network has its own process.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import re
import signal
import statistics
import sys
import time
import timeit
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mutualnet import ElasticSpace, Subnet, Supernet
from mutualnet.cpu import flush_denormals
from mutualnet.supernet.sort_channels import sort_channels

HERE = Path(__file__).parent
NAMES, RESULTS, PAGE = HERE / "zoo.txt", HERE / "zoo.json", HERE.parent / "docs" / "support.md"
SECONDS = 300
SIDES = (128, 160, 192, 224, 256, 299, 320)
"""Pixels of the images that are tried, in this order."""
TARGET_RATIO = 0.35
"""A convolutional network must run at no more of its convolutions' multiply-adds at width 0.5."""
WHERE = re.compile(r"( \(\w+)? in (the model|[\w.]+), \S*:\d+\)?$")
"""The end of a reason: the operation, the module that ran it and the line of code."""
ROUNDING = "its few channels round up to multiples of 8"
BOXES = "it finds more boxes when narrow, by chance: its weights are random"
MIXING = re.compile("LayerNorm|GroupNorm|RmsNorm|RMSNorm|Grn|GlobalResponse|StdConv|Eca|Evo|SHMA")
"""Types of layers in which a channel depends on all the others, or on how many there are: there a
narrow network is another function than the full one with its channels hidden."""


# --------------------------------------------------------------------------------- one network


def examine(name: str) -> dict[str, Any]:
    """Convert a network and check it at widths 0.25, 0.5 and 1."""
    torch.manual_seed(0)
    model = build(name)
    for shape in inputs_of(model):
        x = torch.randn(2, *shape)
        try:
            settle(model, x)
            break
        except Exception:  # not a size of this network
            continue
    else:
        return {"failed": "it runs on no size that was tried"}
    record: dict[str, Any] = {
        "params": sum(p.numel() for p in model.parameters()),
        "input": list(shape),
    }
    model.eval()
    with torch.no_grad():
        before, again = leaves(model(x)), leaves(model(x))
    deterministic = same(before, again)
    full = operations(model, x)
    record["macs"] = sum(full.values()) // 4
    record["conv_share"] = convolutions(full) / max(1, sum(full.values()))
    start = time.perf_counter()
    space = ElasticSpace(width_range=(0.25, 1.0), resolutions=(shape[-1],))
    try:
        net = Supernet(model, space, example_input=torch.zeros(1, *shape))
    except ValueError as problem:
        fixed = re.findall(r"^  fixed +[^:]+: (.*)$", str(problem), re.MULTILINE)
        ((common, layers),) = Counter(WHERE.sub("", why) for why in fixed).most_common(1)
        record["refused"] = f"nothing is elastic; {layers} of {len(fixed)} layers: {common}"[:300]
        return record
    record["seconds"] = time.perf_counter() - start
    record["inelastic"] = reasons(net, model, x[:1])
    half, quarter = (Subnet(width_mult=w, resolution=shape[-1]) for w in (0.5, 0.25))
    record["subnet_ms"] = 1e3 * statistics.median(
        timeit.repeat(lambda: net.subnet(half), number=1, repeat=5)
    )
    plain = net.extract(half, uncalibrated=True).eval()
    narrow = operations(plain, x)
    record["ratio"] = sum(narrow.values()) / max(1, sum(full.values()))
    record["conv_ratio"] = convolutions(narrow) / max(1, convolutions(full))
    least = operations(net.extract(quarter, uncalibrated=True).eval(), x)
    record["least_macs"] = sum(least.values()) // 4
    problems = []
    if not all(t.isfinite().all() for t in before):
        problems.append("its outputs are no numbers")
    with torch.no_grad():
        if deterministic and not same(before, leaves(net.eval()(x))):
            problems.append("conversion changes the outputs")
        wanted = [t.shape for t in before]
        if [t.shape for t in leaves(plain(x))] != wanted and deterministic and not detects(model):
            problems.append("a narrow network's output has another shape")
    problems += trains(net, model, x, (quarter, half)) if not detects(model) else []
    if deterministic and not detects(model):
        record["hidden_distance"] = hidden_distance(net, half, x)
        record["mixes"] = any(MIXING.search(type(m).__name__) for m in model.modules())
        if not record["mixes"] and record["hidden_distance"] > 1e-4:
            problems.append("a narrow network is not the full one with its channels hidden")
        record["sorted_distance"] = sorted_distance(net, x)
        if record["sorted_distance"] > 1e-5:
            problems.append("another order of its channels changes the full network")
    record["problems"] = problems
    return record


def build(name: str) -> nn.Module:
    """A fresh network, at a small image size where its constructor takes one."""
    library, _, rest = name.rpartition(":")
    if library == "torchvision":
        kwargs: dict[str, Any] = {"weights": None}
        if rest in ("googlenet", "inception_v3"):
            kwargs["init_weights"] = False
        home = torchvision.models.get_model_builder(rest).__module__
        if ".detection" in home or ".segmentation" in home:
            kwargs["weights_backbone"] = None
        model: nn.Module = torchvision.models.get_model(rest, **kwargs)
        return model
    default = timm.models.get_pretrained_cfg(rest)
    if default is not None and default.input_size[-1] > 256:
        for side in (224, 256):
            try:
                return timm.create_model(rest, img_size=side)
            except TypeError:
                break
            except Exception:  # not a size of this network
                continue
    return timm.create_model(rest)


def inputs_of(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of inputs, without the batch, that a network may run on, the smallest first."""
    kind = type(model).__module__
    if ".video" in kind:
        small = not kind.endswith(("mvit", "swin_transformer", "s3d"))
        yield (3, 4, 64, 64) if small else (3, 16, 224, 224)
        return
    if detects(model):
        yield (3, 320, 320)
        return
    config = getattr(model, "default_cfg", None) or {}
    default = tuple(config.get("input_size") or (3, 224, 224))
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if config.get("fixed_input_size"):
        yield (3, *size) if size else default
    for side in (s for s in SIDES if not config or s <= max(default[-1], 256)):
        yield (default[0], side, side)
    yield default


def detects(model: nn.Module) -> bool:
    """Whether a network is a detector: trained with targets, and its outputs' number varies."""
    return type(model).__module__.startswith("torchvision.models.detection")


def settle(model: nn.Module, x: Tensor) -> None:
    """Give BN statistics of the inputs, and constant parameters values that show a mistake."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                is_number = parameter.numel() > 1 and parameter.is_floating_point()
                if is_number and float(parameter.std()) < 1e-4:
                    noise = torch.randn(parameter.shape, generator=generator)
                    scale = 1 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
                    parameter.copy_(parameter + 0.2 * scale * noise)
        if detects(model):
            return
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        model.train()(x)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def leaves(result: object) -> list[Tensor]:
    """All tensors of numbers in an output."""
    return [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.is_floating_point()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Whether two outputs have the same bits."""
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def operations(model: nn.Module, x: Tensor) -> dict[str, int]:
    """Floating-point operations by kind, counted as they are dispatched."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:  # the counter wants a graph wherever a parameter has a gradient
        parameter.requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    for parameter in trained:
        parameter.requires_grad_(True)
    counts = counter.get_flop_counts().get("Global", {})
    return {str(kind): int(number) for kind, number in counts.items()}


def convolutions(counts: dict[str, int]) -> int:
    """The operations of convolutions among all."""
    return sum(number for kind, number in counts.items() if "conv" in kind)


def kernel_size(module: nn.Module) -> int:
    """Weights that one output of a convolution is computed from."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight[0].numel()


def reasons(net: Supernet, model: nn.Module, x: Tensor) -> list[dict[str, Any]]:
    """Layers that keep their channels, but for the output's, with the share of convolutions."""
    macs: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, _ConvNd):

            def count(m: nn.Module, _: Any, out: Tensor, name: str = name) -> None:
                macs[name] = macs.get(name, 0) + out.numel() * kernel_size(m)

            handles.append(module.register_forward_hook(count))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    total = max(1, sum(macs.values()))
    found: dict[str, list[str]] = {}
    for entry in net.plan.inelastic:
        if "model's output" not in entry.reason:
            found.setdefault(WHERE.sub("", entry.reason), []).extend(entry.layers)
    return [
        {
            "reason": reason,
            "layers": len(layers),
            "first": layers[0],
            "conv_share": sum(macs.get(layer, 0) for layer in layers) / total,
        }
        for reason, layers in found.items()
    ]


def trains(net: Supernet, model: nn.Module, x: Tensor, subnets: tuple[Subnet, ...]) -> list[str]:
    """What is wrong with training steps of sub-networks, next to extracted ones."""
    problems = []
    for subnet in subnets:
        model.train()
        model.zero_grad(set_to_none=True)
        outputs = []
        for module in (net.subnet(subnet), net.extract(subnet, uncalibrated=True).train()):
            torch.manual_seed(3)
            found = leaves(module(x))
            sum((t.square().mean() for t in found if t.requires_grad), torch.zeros(())).backward()
            outputs.append([t.detach() for t in found])
        if distance(*outputs) > 1e-3:
            problems.append(f"at width {subnet.width_mult:g} switched and extracted differ")
        if not any(p.grad is not None for p in model.parameters()):
            problems.append(f"at width {subnet.width_mult:g} nothing has a gradient")
    return problems


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference, relative to the largest value; infinite where one is no number."""
    if [t.shape for t in a] != [t.shape for t in b]:
        return float("inf")
    if not all(t.isfinite().all() for t in (*a, *b)):
        return float("inf")  # comparisons with NaN are false, so no limit would catch it
    return max(
        (
            float((x - y).abs().max()) / max(1e-12, float(y.abs().max()))
            for x, y in zip(a, b, strict=True)
            if x.numel()
        ),
        default=0.0,
    )


def hidden_distance(net: Supernet, subnet: Subnet, x: Tensor) -> float:
    """How far a narrow network is from the full one without the dropped channels.

    They are not read by any weight; where products of activations read them, as in attention, they
    are not made either.
    """
    with torch.no_grad():
        narrow = leaves(net.extract(subnet, uncalibrated=True).eval()(x))
        return min(
            distance(narrow, leaves(hide(net, subnet, made=made)(x))) for made in (False, True)
        )


def sorted_distance(net: Supernet, x: Tensor) -> float:
    """How far the full network is from itself with its channels in order of importance.

    In double precision, in which nothing but a mistake is seen, where the network runs in it.
    """
    model = copy.deepcopy(net.model).eval()
    with torch.no_grad():
        try:
            before = leaves(model.double()(x.double()))
            x = x.double()
        except Exception:  # its code names a precision
            model = copy.deepcopy(net.model).eval()
            before = leaves(model(x))
        sort_channels(model, net.plan, "l1")
        return distance(leaves(model(x)), before)


def hide(net: Supernet, subnet: Subnet, *, made: bool) -> nn.Module:
    """The full network whose dropped channels are not read, and if `made` not made either."""
    hidden = copy.deepcopy(net.model).eval()
    kept = net.plan.indices(net.counts(subnet))
    for name, module in hidden.named_modules():
        dim = 0 if getattr(module, "transposed", False) else 1
        if not isinstance(module, (_ConvNd, nn.Linear, nn.RNNBase)):
            continue
        for full, weight in module.named_parameters(name, recurse=False):
            index = kept.get(full, {}).get(dim) if weight.dim() > 1 else None
            if index is not None:
                mask_along(weight, dim, index)
    for name, parameter in hidden.named_parameters() if made else ():
        for dim, index in kept.get(name, {}).items():
            mask_along(parameter, dim, index)
    return hidden


def mask_along(parameter: Tensor, dim: int, index: Any) -> None:
    """Set to zero what an index along a dimension leaves out."""
    mask = torch.zeros(parameter.shape[dim])
    mask[index] = 1.0
    with torch.no_grad():
        parameter.mul_(mask.view([-1 if d == dim else 1 for d in range(parameter.dim())]))


# ------------------------------------------------------------------------------ all of them


def supervised(name: str) -> dict[str, Any]:
    """Examine a network in a process of its own, so that no failure takes others with it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(SECONDS)
        try:
            record = examine(name)
        except Exception as problem:  # whatever a network raises is a result
            record = {"failed": f"{type(problem).__name__}: {str(problem).splitlines()[:1]}"[:300]}
        with os.fdopen(writer, "w") as pipe:
            json.dump(record, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else {"failed": f"no answer within {SECONDS} s"}


def wrong(record: dict[str, Any]) -> str:
    """What must not be, whatever is elastic; empty if nothing is."""
    return str(record["failed"]) if "failed" in record else "; ".join(record.get("problems", ()))


def missed(record: dict[str, Any]) -> str:
    """What keeps a network from the target, with the reason; empty if nothing does."""
    if found := wrong(record):
        return found
    if "refused" in record:
        return str(record["refused"])
    if record["conv_share"] > 0.5 and record["conv_ratio"] > TARGET_RATIO:
        large = [r for r in record["inelastic"] if r["conv_share"] > 0.02]
        worst = sorted(large, key=lambda r: -r["conv_share"])[:1]
        why = [f"{r['first']}: {r['reason']}" for r in worst]
        # A narrower network never computes more but for another number of boxes.
        other = BOXES if record["conv_ratio"] > 0.9 else ROUNDING
        return f"{record['conv_ratio']:.2f} of its convolutions; {' '.join(why) or other}"
    return ""


def page(results: dict[str, dict[str, Any]]) -> str:
    """The page of what is supported."""
    good = {n: r for n, r in results.items() if "ratio" in r}
    conv = {n: r for n, r in good.items() if r["conv_share"] > 0.5}
    small = [n for n, r in conv.items() if r["conv_ratio"] <= TARGET_RATIO]
    usable = [n for n, r in good.items() if not r["problems"]]
    slowest = max(good, key=lambda n: good[n]["seconds"])
    slow = max(good, key=lambda n: good[n]["subnet_ms"])
    lines = [
        "# Which networks are elastic",
        "",
        f"The smallest network of each family of timm and torchvision, {len(results)} in all, with "
        "random weights, as examined by `benchmarks/zoo.py`. This page is written by "
        "`python benchmarks/zoo.py --page`.",
        "",
        f"- {len(good)} of {len(results)} networks convert, and {len(usable)} of these pass every "
        "check: the outputs at full width are bit-identical; forward and backward passes run at "
        "widths 0.25 and 0.5; extracted sub-networks equal switched ones; and, where no layer "
        "mixes channels, a sub-network equals the full network with the dropped channels masked. "
        "Detectors are checked for conversion and in eval mode only.",
        *_order_line(good),
        f"- {len(conv)} networks are convolutional: convolutions are more than half of their "
        f"multiply-adds. At width 0.5, {len(small)} of them keep at most {TARGET_RATIO:g} of their "
        "convolutions' multiply-adds.",
        f"- Conversion takes a median of {_median(good, 'seconds'):.1f} s on one thread, and at "
        f"most {math.ceil(good[slowest]['seconds'])} s ({slowest}).",
        f"- Making a sub-network takes a median of {_median(good, 'subnet_ms'):.0f} ms, and at "
        f"most {math.ceil(good[slow]['subnet_ms'])} ms ({slow}).",
        "",
        "The cost of a two-stage detector depends on how many boxes it proposes, which is "
        "arbitrary with random weights.",
        "",
        "*conv* is the share of convolutions in all multiply-adds; *at 0.5* and *convs* are the "
        "shares of all multiply-adds, and of those of convolutions, that remain at width 0.5; "
        "*M MACs* are the multiply-adds for one input, in millions, at full width and at width "
        "0.25; *s* is the time of conversion.",
        "",
        "| network | M params | conv | at 0.5 | convs | M MACs | s | not elastic, or wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in results.items():
        if "ratio" not in record:
            lines.append(f"| {name} | | | | | | | {missed(record)} |".replace("\n", " "))
            continue
        kept = [f"{r['first']} (+{r['layers'] - 1}): {r['reason']}" for r in record["inelastic"]]
        why = "; ".join([*record["problems"], *kept[:2]])
        lines.append(
            f"| {name} | {record['params'] / 1e6:.1f} | {record['conv_share']:.2f} | "
            f"{record['ratio']:.2f} | {record['conv_ratio']:.2f} | {record['macs'] / 1e6:.0f}, "
            f"{record['least_macs'] / 1e6:.0f} | {record['seconds']:.1f} | {why} |"
        )
    return "\n".join(lines) + "\n"


def _median(results: dict[str, dict[str, Any]], key: str) -> float:
    return statistics.median(record[key] for record in results.values())


def _order_line(good: dict[str, dict[str, Any]]) -> list[str]:
    """What sorting changes, if it was looked at."""
    found = {n: r["sorted_distance"] for n, r in good.items() if "sorted_distance" in r}
    if not found:
        return []
    worst = max(found, key=lambda n: found[n])
    return [
        "- Sorting the channels by importance (`sort_channels`) changes the outputs at full width "
        f"by at most {found[worst]:.0e}, relative to the largest output ({worst}); "
        f"{len(found)} of {len(good)} networks were checked for it."
    ]


def main() -> int:
    """Examine networks, write the page, say what misses the target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--page", action="store_true", help="write docs/support.md")
    parser.add_argument(
        "--check", action="store_true", help="fail if a network is wrong or not tried"
    )
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    flush_denormals()
    listed = NAMES.read_text().split()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    missing = [n for n in listed if n not in results]
    todo = args.names or ([] if args.page and not args.check else missing)
    for name in todo:
        results[name] = supervised(name)
        print(f"{name:42} {missed(results[name]) or 'fine'}", flush=True)
        # The page counts families, and a mistyped name is none.
        results = {n: results[n] for n in listed if n in results}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if args.page:
        PAGE.write_text(page(results))
    untried = [n for n in listed if n not in results]
    bad = [n for n in listed if n in results and missed(results[n])]
    print(f"{len(bad)} miss the target: {', '.join(bad)}; {len(untried)} were not tried")
    mistaken = [n for n in listed if n in results and wrong(results[n])]
    if mistaken:
        print(f"{len(mistaken)} are wrong: {', '.join(mistaken)}")
    return int(args.check and bool(mistaken or untried))


if __name__ == "__main__":
    sys.exit(main())
