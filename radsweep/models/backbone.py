"""One face for every image encoder: a timm model that takes x-rays and answers in a fixed form.

Whatever the model (ViT grid, DaViT pyramid, a convolutional net), an image gives one pooled vector,
one mean vector and four maps; a ViT also gives its tokens, some of them masked, at any size.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import timm
import torch
import torch.nn.functional as F
from timm.models import group_parameters
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from radsweep.errors import SpecError
from radsweep.models.batch_norm import over_ranks
from radsweep.models.positions import check_policy, resample_positions
from radsweep.specs import Scalar

LEVELS = 4
"""Maps that ``features`` gives."""

SHAPES = 8
"""Of a block's input for which it may be compiled: sizes of crops and parts, with gradient or not.
"""


@dataclass(frozen=True, kw_only=True)
class Features:
    """What an encoder says of B images."""

    pooled: Tensor
    """[B, D]: the value of ``forward``."""
    mean: Tensor
    """[B, C of the last map]: its mean over positions (for a ViT, patches after its final norm)."""
    maps: list[Tensor]
    """Levels [B, C, h, w], shallow first: one grid for a ViT (each after the final norm, as
    DINOv2's dense probes take them), a pyramid for a hierarchical encoder."""


@final
class Backbone(nn.Module):
    """A timm model behind one face; built by ``build_backbone``.

    Its state dict is the timm model's under ``model.``, and for a ViT ``mask_token`` [1, 1, D],
    which only masked-image learning trains (it does not require a gradient until that is asked
    for).
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    model: Any

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        settings: dict[str, Scalar],
        image_size: int,
        pixel_mean: float,
        pixel_std: float,
        interpolation: str,
    ) -> None:
        super().__init__()
        self.model = model
        self.name, self.settings, self.image_size = name, settings, image_size
        self.interpolation = interpolation
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std), persistent=False)
        self.in_chans = _input_channels(model)
        self.dim: int = model.head_hidden_size
        """D: width of ``forward``'s answer."""
        self.is_vit = isinstance(model, VisionTransformer)
        self._levels = _levels(model)
        info = model.feature_info
        self.map_widths: list[int] = [info[level]["num_chs"] for level in self._levels]
        """C of each of the four maps."""
        self.patch_size: int = info[self._levels[-1]]["reduction"]
        """Pixels along a side of one position of the last map."""
        self.mask_token: nn.Parameter | None = None
        if self.is_vit:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, model.embed_dim), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features [B, D]: a ViT's normed class token, or the model's own pooling.

        Args:
            images: uint8 (divided by 255) or float in [0, 1], [B, 1, H, W].
        """
        if self.is_vit:
            return self._pool(self.model.norm(self._blocks(self._embed(images, None))))
        return self._pool(self.model.forward_features(self.normalise(images)))

    def features(self, images: Tensor, levels: int = LEVELS) -> Features:
        """Pooled, mean and the deepest maps, 0 to 4, of images as ``forward`` takes them."""
        wanted = self._levels[LEVELS - levels :]
        if self.is_vit:
            return self._vit_features(images, wanted)
        # The mean is the last map's, whoever wants it.
        indices = sorted({*wanted, self._levels[-1]})
        last, maps = self.model.forward_intermediates(
            self.normalise(images), indices=indices, output_fmt="NCHW"
        )
        by_level = dict(zip(indices, maps, strict=True))
        return Features(
            pooled=self._pool(last),
            mean=by_level[self._levels[-1]].mean(dim=(2, 3)),
            maps=[by_level[level] for level in wanted],
        )

    def tokens(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normed class token [B, D] and patch tokens [B, N, D] of a ViT, at any image size.

        Args:
            images: as ``forward`` takes them; sides are multiples of the patch.
            masks: bool [B, N]; True patches are replaced by the mask token before positions are
                added.

        Raises SpecError for an encoder without class and patch tokens.
        """
        if not self.is_vit or self.model.cls_token is None:
            raise SpecError(
                f"encoder {self.name} has no class and patch tokens; DINOv2 needs a ViT that has"
            )
        tokens = self.model.norm(self._blocks(self._embed(images, masks)))
        return tokens[:, 0], tokens[:, self.model.num_prefix_tokens :]

    def normalise(self, images: Tensor) -> Tensor:
        """Float [B, in_chans, H, W]: scaled, standardised, and the one channel repeated."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        pixels = (pixels - self.pixel_mean) / self.pixel_std
        return pixels.expand(-1, self.in_chans, -1, -1)

    def layer_of(self) -> dict[str, int]:
        """Depth of each parameter by name: 0 for the stem, rising to the final norm at the top.

        What layer-wise learning rates are made from. The groups are timm's; they are DINOv2's for a
        ViT.
        """
        found = group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)
        layers = {f"model.{name}": int(layer) for name, layer in found.items()}
        return {"mask_token": 0, **layers} if self.is_vit else layers

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load weights that fit by name and shape; positions of another grid are interpolated.

        A missing ``mask_token`` stays zero, as DINOv2 begins. Raises SpecError, listing them, where
        names are missing or surplus or shapes differ.
        """
        state, own = dict(state), self.state_dict()
        table = "model.pos_embed"
        if self.is_vit and table in state and state[table].shape != own[table].shape:
            state[table] = self._refit_positions(state[table])
        if self.is_vit:
            state.setdefault("mask_token", own["mask_token"])
        faults = [f"missing: {name}" for name in sorted(own.keys() - state.keys())]
        faults += [f"surplus: {name}" for name in sorted(state.keys() - own.keys())]
        faults += [
            f"{name} is {tuple(state[name].shape)} but the encoder's is {tuple(own[name].shape)}"
            for name in sorted(own.keys() & state.keys())
            if own[name].shape != state[name].shape
        ]
        if faults:
            raise SpecError(
                f"the starting weights do not fit encoder {self.name} with {self.settings}; "
                "change encoder or encoder_settings. " + "; ".join(faults)
            )
        self.load_state_dict(state)

    def checkpoint_activations(self) -> None:
        """From now on keep but the input of each block for the backward pass.

        The rest is computed anew. Raises SpecError for a model of which timm cannot.
        """
        try:
            self.model.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as fault:
            raise SpecError(
                f"timm has no activation checkpointing for encoder {self.name}; leave it out and "
                "give fewer images at once"
            ) from fault
        inner = [module for module in self.model.modules() if module is not self.model]
        if any(getattr(module, "grad_checkpointing", False) for module in inner):
            # timm's DaViT would compute each stage anew, and then each of its blocks once more.
            self.model.grad_checkpointing = False

    def blocks_within(self) -> list[nn.Module]:
        """Each block of a ViT, each stage of another model."""
        return [self.model.get_submodule(level["module"]) for level in self.model.feature_info]

    def compile_blocks(self) -> None:
        """Have PyTorch compile each of ``blocks_within`` at its first call.

        Names and weights stay. Blocks that drop paths at rates of their own are compiled one by
        one.
        """
        blocks = self.blocks_within()
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, SHAPES * len(blocks))
        for block in blocks:
            block.compile(dynamic=False)

    def _refit_positions(self, table: Tensor) -> Tensor:
        patches = table.shape[1] - (
            0 if self.model.no_embed_class else self.model.num_prefix_tokens
        )
        side = round(patches**0.5)
        if side * side != patches or table.shape[2] != self.model.embed_dim:
            return table
        return resample_positions(
            table, (side, side), self.model.patch_embed.grid_size, self.interpolation
        )

    def _embed(self, images: Tensor, masks: Tensor | None) -> Tensor:
        """Prefix and patch tokens [B, P + N, D] with positions, as the blocks take them."""
        model, batch = self.model, len(images)
        patch = model.patch_embed.patch_size
        if images.shape[-2] % patch[0] or images.shape[-1] % patch[1]:
            raise SpecError(
                f"images of {tuple(images.shape[-2:])} px are no multiple of the patch {patch}; "
                "choose another image or crop size"
            )
        grid = model.patch_embed.proj(self.normalise(images))
        size = (grid.shape[-2], grid.shape[-1])
        patches = model.patch_embed.norm(grid.flatten(2).transpose(1, 2))
        if masks is not None:
            assert self.mask_token is not None
            patches = torch.where(masks[..., None], self.mask_token.to(patches.dtype), patches)
        prefix = [
            token.expand(batch, -1, -1)
            for token in (model.cls_token, model.reg_token)
            if token is not None
        ]
        positions = None
        if model.pos_embed is not None:
            own = model.patch_embed.grid_size
            positions = resample_positions(model.pos_embed, own, size, self.interpolation)
        if positions is not None and model.no_embed_class:
            patches = patches + positions
        tokens = torch.cat([*prefix, patches], dim=1)
        if positions is not None and not model.no_embed_class:
            tokens = tokens + positions
        embedded: Tensor = model.norm_pre(model.patch_drop(model.pos_drop(tokens)))
        return embedded

    def _blocks(self, tokens: Tensor) -> Tensor:
        anew = self.model.grad_checkpointing and torch.is_grad_enabled()
        for block in self.model.blocks:
            tokens = checkpoint(block, tokens, use_reentrant=False) if anew else block(tokens)
        return tokens

    def _pool(self, last: Tensor) -> Tensor:
        pooled: Tensor = self.model.forward_head(last, pre_logits=True)
        return pooled

    def _vit_features(self, images: Tensor, levels: list[int]) -> Features:
        patch = self.model.patch_embed.patch_size
        grid = (images.shape[-2] // patch[0], images.shape[-1] // patch[1])
        prefix = self.model.num_prefix_tokens
        tokens, taken = self._embed(images, None), {}
        for depth, block in enumerate(self.model.blocks):
            tokens = block(tokens)
            if depth in levels:
                patches = self.model.norm(tokens)[:, prefix:]
                taken[depth] = patches.transpose(1, 2).unflatten(2, grid)
        tokens = self.model.norm(tokens)
        return Features(
            pooled=self._pool(tokens),
            mean=tokens[:, prefix:].mean(dim=1),
            maps=[taken[depth] for depth in levels],
        )


def resized(images: Tensor, size: int) -> Tensor:
    """Square images of ``size`` pixels; those of the corpus's own size stay untouched uint8."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(
        images.float() / 255,
        size=(size, size),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    ).clamp(0, 1)


def _levels(model: Any) -> list[int]:
    """Four levels of ``feature_info``: evenly spaced if all are of one size, else the last."""
    info = list(model.feature_info)
    if len({level["reduction"] for level in info}) == 1:
        return [max(0, round(len(info) * (i + 1) / LEVELS) - 1) for i in range(LEVELS)]
    first = max(0, len(info) - LEVELS)
    levels = list(range(first, len(info)))
    return [levels[0]] * (LEVELS - len(levels)) + levels


def _input_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise SpecError(f"{type(model).__name__} has no convolution that reads an image")


def _value(setting: Scalar) -> Scalar | tuple[int, ...]:
    """A setting is one plain value; ``"32,64,96,128"`` is how one says a tuple of integers."""
    if isinstance(setting, str) and re.fullmatch(r"\d+(,\d+)+", setting):
        return tuple(int(number) for number in setting.split(","))
    return setting


def _create(name: str, image_size: int, settings: dict[str, Scalar]) -> nn.Module:
    given: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    given |= {key: _value(value) for key, value in settings.items()}
    try:
        try:
            model: nn.Module = timm.create_model(name, img_size=image_size, **given)
        except TypeError as fault:
            # Convolutional and pyramid models read any size and refuse to be told one.
            if re.search(r"unexpected keyword argument 'img_size'", str(fault)) is None:
                raise
            model = timm.create_model(name, **given)
    except (TypeError, ValueError, AssertionError) as fault:
        raise SpecError(f"encoder {name} cannot be built with {settings}: {fault}") from fault
    return model


def build_backbone(
    name: str,
    image_size: int,
    settings: Mapping[str, Scalar],
    pixel_mean: float,
    pixel_std: float,
    interpolation: str = "dinov2",
) -> Backbone:
    """An encoder with random weights, drawn from torch's current generator.

    Args:
        name: a timm model, such as ``davit_huge_fl`` or ``vit_base_patch14_dinov2``.
        image_size: pixels along a side; a ViT's position table is made for it.
        settings: keyword overrides for timm, such as ``{"patch_size": 8, "embed_dim": 128}``; a
            tuple of
            integers is written ``"32,64,96,128"``.
        pixel_mean: of pixels in [0, 1].
        pixel_std: of the same.
        interpolation: how a ViT's positions are read at other sizes, see ``models/positions.py``.

    Raises SpecError for an unknown name, settings that do not fit it, or a size that is no multiple
    of the patch.
    """
    check_policy(interpolation)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()"
        raise SpecError(f"timm has no model {name!r}; {hint}")
    model = _create(name, image_size, dict(settings))
    if isinstance(model, VisionTransformer) and image_size % model.patch_embed.patch_size[0]:
        raise SpecError(
            f"image_size {image_size} is no multiple of the patch of encoder {name}, "
            f"{model.patch_embed.patch_size[0]} px"
        )
    over_ranks(model)
    return Backbone(
        model,
        name=name,
        settings=dict(settings),
        image_size=image_size,
        pixel_mean=pixel_mean,
        pixel_std=pixel_std,
        interpolation=interpolation,
    )
