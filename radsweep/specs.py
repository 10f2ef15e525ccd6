"""What a sweep is, as frozen values.

Nothing here touches a disk, a GPU or Ray. What a thing *is* is a field and enters its key; where
and how it runs (paths, workers, retries) is an argument of the function that runs it, never a
field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from radsweep import keys, parts
from radsweep.errors import SpecError

Scalar: TypeAlias = bool | int | float | str | None
Settings: TypeAlias = tuple[tuple[str, Scalar], ...]

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
RANDOM_START, CELL_START, PACKAGE_START = "random", "cell:", "package:"
"""What ``Recipe.start_from`` may be or begin with; anything else is a folder or a URL."""

FLOPS_VERSION = 2
"""Of the way in which ``pretrain.flops`` counts: part of a FLOPs budget's key and of kept costs."""

CORPUS_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*@[0-9]+")


def settings(given: Mapping[str, Scalar] | Settings) -> Settings:
    """A mapping as sorted pairs: hashable, and with one key whatever order it was written in."""
    return tuple(sorted(dict(given).items()))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The compute that every cell gets, whatever its scale. Exactly one unit is given."""

    images_seen: int | None = None
    """Images that the encoder trains on, repeats counted."""
    steps: int | None = None
    """Optimiser steps."""
    flops: float | None = None
    """Floating-point operations: 2 per multiply-add, forward and backward, teacher included."""
    gpu_seconds: float | None = None
    """Seconds of training summed over GPUs; not reproducible, since it depends on the machine."""
    batch_size: int
    """Images per optimiser step over all workers, whatever their number."""

    def __post_init__(self) -> None:
        given = {
            unit: value
            for unit in ("images_seen", "steps", "flops", "gpu_seconds")
            if (value := getattr(self, unit)) is not None
        }
        _require(
            len(given) == 1,
            f"a budget has exactly one unit, got {sorted(given) or 'none'}; "
            "give one of images_seen, steps, flops, gpu_seconds",
        )
        _require(self.batch_size > 0, f"batch_size is {self.batch_size}; it must be positive")
        (unit, value), *_ = given.items()
        _require(value > 0, f"the budget of {value} {unit} is not positive")
        _require(
            self.images_seen is None or self.images_seen % self.batch_size == 0,
            f"images_seen {self.images_seen} is no multiple of batch_size {self.batch_size}; "
            "a last, smaller batch would be another recipe",
        )

    def steps_for(self, flops_per_image: float) -> int | None:
        """Optimiser steps that spend the budget, or None where only the clock can tell.

        Args:
            flops_per_image: training FLOPs of one image of this recipe.
        """
        if self.gpu_seconds is not None:
            return None
        if self.steps is not None:
            return self.steps
        if self.images_seen is not None:
            return self.images_seen // self.batch_size
        assert self.flops is not None
        return max(1, round(self.flops / (flops_per_image * self.batch_size)))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an encoder is pretrained. Every field is identity."""

    paradigm: str
    """A module of ``radsweep.paradigms``, or a dotted module name."""
    start_from: str = RANDOM_START
    """``random``; ``cell:NAME`` (another cell's encoder); a folder or URL with published weights;
    or ``package:PACKAGE/FOLDER`` (weights that an installed package brings)."""
    encoder: str
    """A timm model name."""
    encoder_settings: Settings = ()
    """Keyword overrides for timm, such as ``{"patch_size": 8}``."""
    image_size: int
    """Pixels along each side of the square image that the frozen encoder is evaluated on."""
    pixel_mean: float = 0.5
    """Mean of pixels in [0, 1], subtracted."""
    pixel_std: float = 0.25
    """Divided by, after the mean is subtracted."""
    learning_rate: float
    """Peak learning rate of AdamW at this batch size; nothing rescales it."""
    weight_decay: float = 0.05
    """At the start of training; biases and norms are exempt."""
    weight_decay_end: float | None = None
    """At the end (cosine); None keeps it constant."""
    warmup: float = 0.1
    """Share of the budget over which the learning rate rises linearly from 0."""
    final_learning_rate: float = 0.0
    """What it ends at."""
    cooldown: float | None = field(default=None, metadata=keys.ABSENT_IF_DEFAULT)
    """Share of the budget, its last, over which a peak held until then falls linearly; None is a
    cosine from the warm-up's end on."""
    clip_norm: float | None = 1.0
    """Gradient norm that is clipped to; None does not clip."""
    clip_each_module: bool = field(default=False, metadata=keys.ABSENT_IF_DEFAULT)
    """Whether each module of the paradigm (a student, a head, a tower) is clipped by its own norm,
    as DINOv2 does; without, all are by the norm of all gradients together."""
    layer_decay: float = 1.0
    """Learning-rate factor per layer below the top of the encoder."""
    precision: str = "fp32"
    """``fp32``, or ``bf16`` (autocast; weights, losses and softmax stay fp32)."""
    settings: Settings = ()
    """The paradigm's own settings; its ``Settings`` class lists and explains them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder_settings", settings(self.encoder_settings))
        object.__setattr__(self, "settings", settings(self.settings))
        parts.check("paradigms", self.paradigm)
        known = parts.setting_names("paradigms", self.paradigm)
        for name, _ in self.settings:
            _require(
                name in known,
                f"paradigm {self.paradigm} has no setting {name!r}; "
                f"{parts.did_you_mean(name, known)}",
            )
        _require(self.image_size > 0, f"image_size is {self.image_size}; it must be positive")
        _require(
            self.learning_rate > 0, f"learning_rate is {self.learning_rate}; it must be positive"
        )
        _require(
            0 <= self.warmup < 1, f"warmup is {self.warmup}; it is a share of the budget in [0, 1)"
        )
        _require(
            self.cooldown is None or 0 < self.cooldown <= 1 - self.warmup,
            f"cooldown is {self.cooldown}; it is a share of the budget above 0, and with a warmup "
            f"of {self.warmup} at most {1 - self.warmup:g}",
        )
        _require(
            self.clip_norm is not None or not self.clip_each_module,
            "clip_each_module without a clip_norm clips nothing; give both or neither",
        )
        _require(self.precision in ("fp32", "bf16"), f"precision {self.precision!r}; fp32 or bf16")
        _require(self.pixel_std > 0, f"pixel_std is {self.pixel_std}; it must be positive")


@dataclass(frozen=True, kw_only=True)
class Subset:
    """The first ``images`` images of a fixed, patient-level order: smaller nest in larger ones."""

    corpus: str
    """``name@version``."""
    images: int
    """At least so many; the last patient is taken whole."""
    seed: int = 0
    """Another seed is another patient order."""
    stratify_by: tuple[str, ...] = field(default=(), metadata=keys.ABSENT_IF_DEFAULT)
    """Manifest columns (``view``, ``projection``, ``sex``, ``age_years`` by decade, labels) whose
    joint mix every subset shares with all images for pretraining; none takes patients as they
    come."""

    def __post_init__(self) -> None:
        _require(
            not isinstance(self.stratify_by, str),
            f"stratify_by is the text {self.stratify_by!r}; write ({self.stratify_by!r},)",
        )
        object.__setattr__(self, "stratify_by", tuple(sorted(self.stratify_by)))
        _require(
            len(set(self.stratify_by)) == len(self.stratify_by),
            f"stratify_by {self.stratify_by} names a column twice",
        )
        _require(
            CORPUS_NAME.fullmatch(self.corpus) is not None,
            f"corpus {self.corpus!r} is not name@version, such as mayo@1",
        )
        _require(self.images >= 0, f"a subset cannot have {self.images} images")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the sweep: recipe x subset x budget x seed, which gives one encoder."""

    recipe: Recipe
    subset: Subset
    budget: Budget
    seed: int = 0
    """Seeds initialisation, order and augmentation."""

    @property
    def is_baseline(self) -> bool:
        """With 0 images nothing is trained: the cell *is* the starting weights."""
        return self.subset.images == 0

    @property
    def baseline(self) -> "Cell":
        """The cell of the weights that this recipe starts from.

        Where it starts from none, of one draw that stands for all.
        """
        return replace(self, subset=replace(self.subset, images=0), seed=0)

    @property
    def identity(self) -> dict[str, Any]:
        """What the key is made of: all that can change the encoder, the part's version included."""
        recipe = keys.canonical(self.recipe)
        if self.is_baseline:
            # Neither budget nor seed nor corpus can change weights that are only loaded.
            loaded = (
                "start_from",
                "encoder",
                "encoder_settings",
                "image_size",
                "pixel_mean",
                "pixel_std",
            )
            identity = {name: recipe[name] for name in ("paradigm", *loaded)}
            # Drawn from this identity: see ``pretrain.cell.build``.
            drawn = {"drawn": 2} if self.recipe.start_from == RANDOM_START else {}
            return identity | drawn
        # What is counted as an operation says how long such a budget lasts.
        counted = {} if self.budget.flops is None else {"flops_version": FLOPS_VERSION}
        return {
            "recipe": recipe,
            "paradigm_version": parts.version("paradigms", self.recipe.paradigm),
            "subset": keys.canonical(self.subset),
            "budget": keys.canonical(self.budget),
            "seed": self.seed,
            **counted,
        }

    @cached_property
    def key(self) -> str:
        """Ten hex digits of the identity."""
        return keys.key_of(self.identity)

    @property
    def name(self) -> str:
        """For people and paths, such as ``unicl-30k-s0-b91a193429``; never parsed."""
        paradigm = self.recipe.paradigm.rsplit(".", 1)[-1]
        return f"{paradigm}-{short_count(self.subset.images)}-s{self.seed}-{self.key}"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The one fixed way in which every encoder is evaluated."""

    tasks: tuple[str, ...]
    """Modules of ``radsweep.tasks``, or dotted module names."""
    corpus: str | None = None
    """Where the tasks' images come from; None is the sweep's own corpus."""
    train_images: int | None = None
    """Cap on each probe's training images, whole patients in a fixed order; None takes all."""
    test_images: int | None = None
    """The same for val and test, each."""
    search_trials: int = 4
    """Settings that Optuna may try per encoder, task and probe: as many for every encoder."""
    bootstraps: int = 1000
    """Patient-clustered resamples behind every interval."""
    seed: int = 0
    """Seeds probes and resamples: shared by all encoders, so that differences pair."""
    settings: Settings = ()
    """Settings of probes as ``probe.name``, such as ``{"report.steps": 200}``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", settings(self.settings))
        _require(
            len(self.tasks) > 0, "a protocol without tasks scores nothing; name at least one task"
        )
        for task in self.tasks:
            parts.check("tasks", task)
        _require(self.search_trials >= 1, f"search_trials is {self.search_trials}; at least 1")
        _require(
            self.bootstraps >= 100, f"{self.bootstraps} bootstraps give no interval; at least 100"
        )
        for name, _ in self.settings:
            probe, _, setting = name.rpartition(".")
            _require(bool(probe), f"protocol setting {name!r} is not probe.setting")
            parts.check("probes", probe)
            known = parts.setting_names("probes", probe)
            _require(
                setting in known,
                f"probe {probe} has no setting {setting!r}; {parts.did_you_mean(setting, known)}",
            )

    def probe_settings(self, probe: str) -> dict[str, Scalar]:
        """The settings of one probe, without its prefix."""
        return {
            name.rpartition(".")[2]: value
            for name, value in self.settings
            if name.rpartition(".")[0] == probe
        }


EVERY_SCALE, LARGEST_SCALE = "every scale", "largest scale"
OPEN_WEIGHTS = "open weights"


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A claim, made before the scores are seen, that one paradigm beats another or its weights."""

    task: str
    paradigm: str
    better_than: str
    """Another paradigm, or ``"open weights"``."""
    at: str | int = EVERY_SCALE
    """``"every scale"``, ``"largest scale"``, or a number of images."""
    by: float = 0.0
    """The least difference that counts, in the score's unit."""

    def __post_init__(self) -> None:
        _require(
            self.paradigm != self.better_than,
            f"a hypothesis compares {self.paradigm!r} with itself",
        )
        _require(
            self.at in (EVERY_SCALE, LARGEST_SCALE) or (isinstance(self.at, int) and self.at > 0),
            f"a hypothesis is about {EVERY_SCALE!r}, {LARGEST_SCALE!r} or a number of images, "
            f"not {self.at!r}",
        )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The whole declared experiment: recipes x scales x seeds, one budget, one protocol."""

    name: str
    corpus: str
    recipes: tuple[Recipe, ...]
    images: tuple[int, ...]
    """Data scales; the open-weights baseline (0 images) is always there."""
    budget: Budget
    protocol: Protocol | None
    """None only pretrains, for instance to make the weights that another sweep starts from."""
    seeds: tuple[int, ...] = (0,)
    subset_seed: int = 0
    may_show_images: bool = False
    """Whether a dashboard may show x-rays and reports of ``corpus``: never for patient data. Of
    another corpus that the protocol scores on, none are shown."""
    hypotheses: tuple[Hypothesis, ...] = field(default=(), metadata=keys.ABSENT_IF_DEFAULT)
    """Claims that the scores are to answer with yes, no or undecided."""
    stratify_by: tuple[str, ...] = field(default=(), metadata=keys.ABSENT_IF_DEFAULT)
    """See ``Subset.stratify_by``; of every scale."""

    def __post_init__(self) -> None:
        _require(
            NAME.fullmatch(self.name) is not None,
            f"sweep name {self.name!r}: lower-case letters, digits, '.', '_' and '-' only",
        )
        _require(len(self.recipes) > 0, f"sweep {self.name} has no recipe")
        _require(len(self.images) > 0, f"sweep {self.name} has no data scale; give images=(...)")
        _require(
            all(n > 0 for n in self.images) and list(self.images) == sorted(set(self.images)),
            f"images {self.images} must be positive, rising and distinct (0 is added by itself)",
        )
        _require(
            len(self.seeds) == len(set(self.seeds)) > 0,
            f"seeds {self.seeds} must be distinct, and at least one",
        )
        self._subset(self.images[-1])
        for claim in self.hypotheses:
            self._require_answerable(claim)
        arms = [(recipe.paradigm, recipe.start_from) for recipe in self.recipes]
        for arm in arms:
            _require(
                self.protocol is None or arms.count(arm) == 1,
                f"{arms.count(arm)} recipes are {arm[0]} from {arm[1]}: their scores would be one "
                "curve; give each a sweep of its own (sweeps share the cells that they have in "
                "common)",
            )

    def _subset(self, images: int) -> Subset:
        return Subset(
            corpus=self.corpus,
            images=images,
            seed=self.subset_seed,
            stratify_by=self.stratify_by,
        )

    def _require_answerable(self, claim: "Hypothesis") -> None:
        paradigms = sorted({recipe.paradigm for recipe in self.recipes})
        tasks = self.protocol.tasks if self.protocol is not None else ()
        _require(claim.task in tasks, f"a hypothesis is about task {claim.task!r}; tasks: {tasks}")
        for paradigm in (claim.paradigm, claim.better_than):
            _require(
                paradigm in (*paradigms, OPEN_WEIGHTS),
                f"a hypothesis is about paradigm {paradigm!r}; the sweep's are {paradigms}",
            )

    def cells(self) -> tuple[Cell, ...]:
        """Baselines first, then the smallest scale first, so that a fault shows on a cheap cell.

        Recipes that start from the same weights share a baseline.
        """
        return self._cells

    @cached_property
    def _cells(self) -> tuple[Cell, ...]:
        trained = [
            Cell(
                recipe=recipe,
                subset=self._subset(n),
                budget=self.budget,
                seed=seed,
            )
            for n in self.images
            for seed in self.seeds
            for recipe in self.recipes
        ]
        baselines: dict[str, Cell] = {}
        for cell in trained:
            baselines.setdefault(cell.baseline.key, cell.baseline)
        return (*baselines.values(), *trained)


def short_count(images: int) -> str:
    """30000 -> ``30k``, 3500000 -> ``3.5M``, 512 -> ``512``: for names and axes."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if images >= size and images * 10 % size == 0:
            return f"{images / size:g}{unit}"
    return str(images)
