"""One optimiser step, same model, views, batch and precision, beside what one would else use.

``python benchmarks/pretrain_step.py [--batch 16 --image 96 --width 192 --depth 6 ...]`` trains each
paradigm by radsweep's own loop on views in memory; between two of its steps each rival takes one of
its own on the same views, in another order at each step, so that a busy machine slows all alike.
DINOv2 stands beside lightly's modules and losses and a loop written by hand without any of
radsweep's framework; CLIP and UniCL beside open_clip's loss and loop over the same towers.

A round builds all of them anew; its ratio is the median, over steps, of radsweep's time over the
rival's. The table has the median over rounds and, in brackets, their range: what a single round
could have said. Milliseconds are medians as well. ``loss`` is of the first step: equal ones say
that the numerics are. On a CPU rivals step by PyTorch's default AdamW, unless ``--fused-rivals``
gives them the fused kernel of radsweep's loop; on a GPU they have it. ``--compiled`` adds
radsweep's own step with compiled blocks, which takes minutes to begin. ``--profile`` prints where
the time of DINOv2's and CLIP's step goes instead. Needs the ``test`` extra.
"""

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from radsweep import Budget, Recipe, settings
from radsweep.corpus.example import Example, Stratum, Views
from radsweep.models.backbone import build_backbone
from radsweep.paradigms.dinov2 import DinoV2
from radsweep.paradigms.image_text import ImageText
from radsweep.pretrain import schedule
from radsweep.pretrain.cell import build
from radsweep.pretrain.loop import Progress, Ranks, make_optimiser, pretrain, to_device
from radsweep.specs import Cell, Subset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
    from lightly.models.modules import MaskedVisionTransformerTIMM
    from lightly.models.modules.heads import DINOv2ProjectionHead
    from lightly.models.utils import update_momentum

RATE, DECAY, CLIP = 1e-4, 0.05, 3.0
WARM_UP_STEPS = 2
TEMPERATURES = (0.1, 0.04)
"""Of student and teacher, at the first step."""
MOMENTUM = 0.992
Step = Callable[[dict[str, Tensor]], float]


def flags() -> argparse.Namespace:
    """Sizes; the defaults take some two minutes on two CPU cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (
        ("batch", 8), ("image", 64), ("patch", 8), ("width", 96), ("depth", 4), ("heads", 3),
        ("locals", 4), ("local-size", 32), ("prototypes", 4096), ("text-width", 96),
        ("text-layers", 2), ("steps", 16), ("rounds", 5), ("threads", 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fused-rivals", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    return parser.parse_args()


def recipe_of(paradigm: str, given: argparse.Namespace) -> Recipe:
    """The same ViT for all."""
    encoder = {
        "patch_size": given.patch, "embed_dim": given.width, "depth": given.depth,
        "num_heads": given.heads, "in_chans": 1, "weight_init": "jax",
    }  # fmt: skip
    own: dict[str, int | float | str] = {
        "text_width": given.text_width, "text_layers": given.text_layers, "text_heads": 2,
        "embed_dim": given.text_width, "vocabulary_size": 1000,
    }  # fmt: skip
    if paradigm == "dinov2":
        own = {
            "local_size": given.local_size, "local_crops": given.locals,
            "prototypes": given.prototypes, "interpolation": "hf", "freeze_last_layer": 0.0,
            "patch_embed_learning_rate_scale": 1.0, "collapse_after": 1.0,
        }  # fmt: skip
    if paradigm == "clip":
        own["merge_duplicates"] = False
    return Recipe(
        paradigm=paradigm, encoder="vit_tiny_patch16_224", encoder_settings=settings(encoder),
        image_size=given.image, learning_rate=RATE, weight_decay=DECAY, clip_norm=CLIP,
        warmup=0.0, final_learning_rate=RATE, precision=given.precision, settings=settings(own),
    )  # fmt: skip


def views_of(paradigm: DinoV2 | ImageText, batch: int, size: int) -> Views:
    """Views of noise: what is in a picture costs nothing."""
    viewer, rows = paradigm.viewer(), []
    for i in range(batch):
        generator = np.random.default_rng(i)
        film = generator.integers(0, 256, (size, size), dtype=np.uint8)
        words = f"The heart is {i} cm wide. No effusion. Line {7 * i} in place."
        example = Example(
            image_id=str(i), pixels=film, report=words, labels={"finding_edema": i % 2}
        )
        rows.append(viewer(example, generator, Stratum(i, batch)))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class Rival:
    """What every loop does around its losses: clip, AdamW, and what comes after."""

    def __init__(self, modules: list[nn.Module], given: argparse.Namespace) -> None:
        self.modules = nn.ModuleList(modules)
        self.given = given
        trained = [p for p in self.modules.parameters() if p.requires_grad]
        fused = given.fused_rivals or given.device == "cuda"
        self.optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY, fused=fused)

    def autocast(self) -> torch.autocast:
        """Of the forward pass."""
        return torch.autocast(self.given.device, torch.bfloat16, self.given.precision == "bf16")

    def update(self, loss: Tensor) -> Tensor:
        """Backward and one step."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.parameters(), CLIP)
        self.optimiser.step()
        return loss.detach()


def open_clip_step(paradigm: ImageText, given: argparse.Namespace) -> Step:
    """open_clip's training step over copies of the same towers."""
    mine = copy.deepcopy(paradigm).train()
    rival, criterion = Rival([mine], given), ClipLoss()

    def step(batch: dict[str, Tensor]) -> float:
        with rival.autocast():
            image = F.normalize(mine.encoder(batch["image"]) @ mine.image_projection, dim=-1)
            text = F.normalize(mine.text(batch["text"]) @ mine.text_projection, dim=-1)
            loss = criterion(image, text, mine.logit_scale.exp())
        loss = rival.update(loss)
        with torch.no_grad():
            mine.logit_scale.clamp_(0, float(np.log(100)))
        return float(loss)

    return step


def radsweep_step(
    paradigm: DinoV2 | ImageText, recipe: Recipe, given: argparse.Namespace, compiled: bool
) -> Step:
    """The loop's own step over copies of the same towers, whose blocks PyTorch may compile."""
    mine = copy.deepcopy(paradigm).train()
    optimiser = make_optimiser(mine, recipe)
    for tower in mine.towers() if compiled else ():
        tower.compile_blocks()

    def step(batch: dict[str, Tensor]) -> float:
        schedule.apply(optimiser, recipe, 0.0)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(given.device, torch.bfloat16, given.precision == "bf16"):
            loss = torch.stack(list(mine(batch, 0.0).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(mine.parameters(), CLIP)
        optimiser.step()
        mine.after_step(0.0)
        return float(loss.detach())

    return step


def crops_first(views: Tensor) -> Tensor:
    """As a data loader would hand them over: crop by crop."""
    return views.transpose(0, 1).flatten(0, 1)


def plain_dinov2_step(paradigm: DinoV2, given: argparse.Namespace) -> Step:
    """DINOv2 written down from its paper, straight, for one process and these settings alone."""
    mine = copy.deepcopy(paradigm).train()
    student, head, teacher, teacher_head = (
        mine.student, mine.head, mine.encoder, mine.teacher_head,
    )  # fmt: skip
    rival = Rival([student, head], given)
    centres = [torch.zeros(given.prototypes, device=given.device) for _ in range(2)]
    hot, cold = TEMPERATURES

    def targets(scores: Tensor, centre: Tensor) -> Tensor:
        soft = F.softmax((scores - centre) / cold, dim=-1)
        centre.lerp_(scores.mean(0), 0.1)
        return soft

    def step(batch: dict[str, Tensor]) -> float:
        images, masks = crops_first(batch["globals"]), crops_first(batch["masks"])
        with rival.autocast():
            with torch.no_grad():
                cls, patches = teacher.tokens(images)
                aims = targets(teacher_head(cls), centres[0]).chunk(2)
                hidden = targets(teacher_head(patches[masks]), centres[1])
            cls, patches = student.tokens(images, masks)
            small = student.tokens(crops_first(batch["locals"]))[0]
            logs = F.log_softmax(head(cls).float() / hot, dim=-1).chunk(2)
            loss = -(aims[0] * logs[1]).sum(-1).mean() - (aims[1] * logs[0]).sum(-1).mean()
            for crop in F.log_softmax(head(small).float() / hot, dim=-1).chunk(given.locals):
                loss = loss - ((aims[0] + aims[1]) * crop).sum(-1).mean()
            loss = loss / (2 + 2 * given.locals)
            logs_hidden = F.log_softmax(head(patches[masks]).float() / hot, dim=-1)
            weights = (1 / masks.sum(1, keepdim=True).clamp_min(1)).expand(masks.shape)[masks]
            loss = loss - ((hidden * logs_hidden).sum(-1) * weights).sum() / len(masks)
            for crop in cls.chunk(2):
                unit = F.normalize(crop.float(), dim=-1)
                with torch.no_grad():
                    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1)
                loss = loss - 0.1 * (F.pairwise_distance(unit, unit[nearest]) + 1e-8).log().mean()
        loss = rival.update(loss)
        with torch.no_grad():
            pairs = ((teacher, student), (teacher_head, head))
            for followed, leader in pairs:
                torch._foreach_lerp_(
                    list(followed.parameters()), list(leader.parameters()), 1 - MOMENTUM
                )
        return float(loss)

    return step


def lightly_dinov2_step(paradigm: DinoV2, given: argparse.Namespace) -> Step:
    """What lightly offers: modules, losses and momentum update, joined as in its DINOv2 example."""
    start = copy.deepcopy(paradigm)
    backbones, heads = [], []
    for encoder, head in ((start.student, start.head), (start.encoder, start.teacher_head)):
        model = build_backbone(
            encoder.name, given.image, encoder.settings | {"dynamic_img_size": True}, 0.5, 0.25
        ).model
        model.load_state_dict(encoder.model.state_dict())
        vit = MaskedVisionTransformerTIMM(
            vit=model, antialias=False,
            weight_initialization="skip", pos_embed_initialization="skip",
            mask_token=nn.Parameter(encoder.mask_token.detach().clone()),
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = DINOv2ProjectionHead(encoder.dim, 2048, 256, given.prototypes)
        for name, tensor in head.mlp.state_dict().items():
            made.layers.state_dict()[name].copy_(tensor)
        made.last_layer.weight_v.data.copy_(head.prototypes.direction)
        backbones.append(vit.to(given.device))
        heads.append(made.to(given.device))
    (student, teacher), (head, teacher_head) = backbones, heads
    for module in (teacher, teacher_head):
        module.requires_grad_(False)
    rival = Rival([student, head], given)
    hot, cold = TEMPERATURES
    criterion = DINOLoss(given.prototypes, student_temp=hot, center_momentum=0.9)
    patch_criterion = IBOTPatchLoss(given.prototypes, student_temp=hot)
    criterion, patch_criterion = criterion.to(given.device), patch_criterion.to(given.device)
    koleo = KoLeoLoss()
    side = given.image // given.patch

    def step(batch: dict[str, Tensor]) -> float:
        images = start.student.normalise(crops_first(batch["globals"]))
        small = start.student.normalise(crops_first(batch["locals"]))
        masks = crops_first(batch["masks"])
        hidden = F.pad(masks, (1, 0))
        with rival.autocast():
            with torch.no_grad():
                seen = teacher.encode(images)
                aims, patch_aims = teacher_head(seen[:, 0]), teacher_head(seen[hidden])
            tokens = student.encode(images, mask=hidden)
            cls = tokens[:, 0]
            scores = list(head(cls).float().chunk(2))
            scores += list(head(student.encode(small)[:, 0]).float().chunk(given.locals))
            loss = criterion(list(aims.float().chunk(2)), scores, teacher_temp=cold)
            loss = loss + patch_criterion(
                patch_aims.float(), head(tokens[hidden]).float(), masks.view(-1, side, side), cold
            )
            loss = loss + 0.1 * sum(koleo(crop.float()) for crop in cls.chunk(2))
        loss = rival.update(loss)
        update_momentum(student, teacher, m=MOMENTUM)
        update_momentum(head, teacher_head, m=MOMENTUM)
        return float(loss)

    return step


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One who takes steps, in one round."""

    seconds: float
    """Median of a step."""
    ratio: float
    """Median of radsweep's seconds over its, step by step."""
    loss: float
    """Of the first step."""


def measure(name: str, given: argparse.Namespace) -> dict[str, Measured]:
    """One round: radsweep's loop and its rivals in turns; by name, radsweep first."""
    steps = given.steps + WARM_UP_STEPS
    recipe = recipe_of(name, given)
    cell = Cell(
        recipe=recipe, subset=Subset(corpus="noise@1", images=given.batch),
        budget=Budget(steps=steps, batch_size=given.batch),
    )  # fmt: skip
    device = torch.device(given.device)
    paradigm = build(recipe, None, ["The heart is enlarged. No effusion."] * 2, 0).to(device)
    assert isinstance(paradigm, DinoV2 | ImageText)
    views = views_of(paradigm, given.batch, given.image)
    rivals: dict[str, Step] = {}
    if isinstance(paradigm, DinoV2):
        rivals["lightly"] = lightly_dinov2_step(paradigm, given)
        rivals["plain loop"] = plain_dinov2_step(paradigm, given)
    else:
        rivals["open_clip"] = open_clip_step(paradigm, given)
    if given.compiled:
        rivals["radsweep, compiled"] = radsweep_step(paradigm, recipe, given, True)
    seconds: dict[str, list[float]] = {"radsweep": []} | {rival: [] for rival in rivals}
    losses: dict[str, float] = {}

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def in_turns() -> Iterator[Views]:
        for number in range(steps):
            turn = list(rivals.items())
            for rival, step in turn[number % len(turn) :] + turn[: number % len(turn)]:
                began = now()
                loss = step(to_device(views, device))
                losses.setdefault(rival, loss)
                seconds[rival].append(now() - began)
            began = now()
            yield views
            seconds["radsweep"].append(now() - began)

    progress = Progress()
    first = paradigm.losses(to_device(views, device), 0.0)
    losses["radsweep"] = float(torch.stack(list(first.values())).sum().detach())
    if isinstance(paradigm, DinoV2):
        paradigm.centre.zero_()
        paradigm.patch_centre.zero_()
    source = in_turns()
    pretrain(
        cell, paradigm, make_optimiser(paradigm, recipe), source, steps=steps, progress=progress,
        ranks=Ranks(device=device), report=lambda row: None, checkpoint=lambda: None,
        checkpoint_steps=10**6,
    )  # fmt: skip
    next(source, None)
    kept = {who: times[WARM_UP_STEPS:] for who, times in seconds.items()}
    return {
        who: Measured(
            seconds=statistics.median(times),
            ratio=statistics.median(
                mine / theirs for mine, theirs in zip(kept["radsweep"], times, strict=True)
            ),
            loss=losses[who],
        )
        for who, times in kept.items()
    }


def add_rows(name: str, rounds: list[dict[str, Measured]], table: Table) -> None:
    """One row for each who took steps."""
    for who in rounds[0]:
        found = [one[who] for one in rounds]
        ratios = sorted(one.ratio for one in found)
        ratio = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})"
        milliseconds = 1000 * statistics.median(one.seconds for one in found)
        table.add_row(
            name, who, f"{milliseconds:.1f}", f"{found[0].loss:.4f}",
            "" if who == "radsweep" else ratio,
        )  # fmt: skip
    table.add_section()


OPERATORS = 10
"""Of a profile, those that take most."""


def profile(name: str, given: argparse.Namespace) -> Table:
    """Shares of the step's time by PyTorch operator, forward and backward, callees left out."""
    recipe, device = recipe_of(name, given), torch.device(given.device)
    paradigm = build(recipe, None, ["The heart is enlarged. No effusion."] * 2, 0).to(device)
    assert isinstance(paradigm, DinoV2 | ImageText)
    step = radsweep_step(paradigm, recipe, given, given.compiled)
    batch = to_device(views_of(paradigm, given.batch, given.image), device)
    for _ in range(WARM_UP_STEPS):
        step(batch)
    with torch.profiler.profile() as seen:
        for _ in range(given.steps):
            step(batch)
    on = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    found = {one.key: (getattr(one, on), one.count / given.steps) for one in seen.key_averages()}
    whole = sum(microseconds for microseconds, _ in found.values())
    table = Table(title=f"{name}: {whole / given.steps / 1000:.1f} ms a step")
    for column in ("operator", "share", "calls a step"):
        table.add_column(column, justify="left" if column == "operator" else "right")
    for operator, (microseconds, calls) in sorted(found.items(), key=lambda one: -one[1][0])[
        :OPERATORS
    ]:
        table.add_row(operator, f"{microseconds / whole:.1%}", f"{calls:g}")
    return table


def main() -> None:
    """Measure all three, print one table; or the profiles."""
    given = flags()
    torch.set_num_threads(given.threads)
    if given.profile:
        for name in ("dinov2", "clip"):
            Console(width=100).print(profile(name, given))
        return
    table = Table(title=", ".join(f"{name} {value}" for name, value in vars(given).items()))
    for name in ("paradigm", "step by", "milliseconds", "loss", "radsweep's over its"):
        table.add_column(name, justify="left" if name in ("paradigm", "step by") else "right")
    names = ("dinov2", "clip", "unicl")
    # Round by round, so that a slow minute is not one paradigm's.
    rounds = [{name: measure(name, given) for name in names} for _ in range(given.rounds)]
    for name in names:
        add_rows(name, [one[name] for one in rounds], table)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
