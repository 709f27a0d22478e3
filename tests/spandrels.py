"""Checkpoints of networks that are no GPEN, as they circulate: spandrel's own modules with random weights."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of torch, about torch.jit
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.ESRGAN import ESRGAN
    from spandrel.architectures.GFPGAN import GFPGAN
    from spandrel.architectures.RestoreFormer import RestoreFormer
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

__all__ = [
    "bilinear",
    "codeformer",
    "compact",
    "esrgan",
    "gfpgan",
    "realesrgan_x2plus",
    "restoreformer",
    "saved",
]


def gfpgan() -> torch.nn.Module:
    """GFPGAN v1.4's, of its only size; the noise of its layers shows, as in the published one."""
    torch.manual_seed(1)
    model: Any = GFPGAN()
    for name, weight in model.named_parameters():
        if (
            name.startswith("stylegan_decoder.style_conv")
            and name.endswith(".weight")
            and weight.numel() == 1
        ):
            torch.nn.init.constant_(weight, 0.2)
    return model.eval()


def codeformer() -> torch.nn.Module:
    torch.manual_seed(2)
    return CodeFormer(dim_embd=64, n_layers=1, codebook_size=16, connect_list=["32"]).eval()


def restoreformer() -> torch.nn.Module:
    torch.manual_seed(3)
    small = {"ch": 32, "ch_mult": (1,) * 6, "num_res_blocks": 1, "embed_dim": 32, "z_channels": 32}
    return RestoreFormer(n_embed=16, **small).eval()


def esrgan(scale: int = 4) -> torch.nn.Module:
    torch.manual_seed(4)
    return ESRGAN(num_filters=4, num_blocks=1, scale=scale).eval()


def realesrgan_x2plus() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """Real-ESRGAN's network for 2x, which folds pixels into channels; its state by the names it came with."""
    torch.manual_seed(6)
    model = ESRGAN(in_nc=12, num_filters=4, num_blocks=1, scale=4, shuffle_factor=2).eval()
    names = {
        r"^model\.0\.": "conv_first.",
        r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.": r"body.\1.rdb\2.conv\3.",
        r"^model\.1\.sub\.\d+\.(weight|bias)": r"conv_body.\1",
        r"^model\.3\.": "conv_up1.",
        r"^model\.6\.": "conv_up2.",
        r"^model\.8\.": "conv_hr.",
        r"^model\.10\.": "conv_last.",
    }
    state = {}
    for key, value in model.state_dict().items():
        for old, new in names.items():
            key = re.sub(old, new, key)
        state[key] = value
    return model, state


def compact(scale: int = 2, *, plain: bool = False, features: int = 8) -> torch.nn.Module:
    """Real-ESRGAN's compact network; `plain` repeats every pixel, by its shortcut alone."""
    torch.manual_seed(5)
    model: Any = Compact(num_feat=features, num_conv=2, upscale=scale)
    if plain:
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
    return model.eval()


def bilinear(scale: int) -> torch.nn.Module:
    """Real-ESRGAN's compact network with weights that interpolate: it moves nothing."""
    model: Any = Compact(num_feat=3, num_conv=1, upscale=scale)
    places = (torch.arange(scale) + 0.5) / scale - 0.5
    weights = torch.stack([(-places).clamp(min=0), 1 - places.abs(), places.clamp(min=0)], dim=1)
    nearest = torch.tensor((0.0, 1.0, 0.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.body[1].weight.fill_(1)
        model.body[3].weight.fill_(1)
        for channel in range(3):
            model.body[0].weight[channel, channel, 1, 1] = 1
            model.body[2].weight[channel, channel, 1, 1] = 1
            for row in range(scale):
                for column in range(scale):
                    kernel = torch.outer(weights[row], weights[column]) - torch.outer(nearest, nearest)
                    model.body[4].weight[channel * scale**2 + row * scale + column, channel] = kernel
    return model.eval()


def saved(model: torch.nn.Module, path: Path, key: str | None = "params_ema", *, half: bool = False) -> Path:
    """Write a checkpoint: its state dict under a key, or bare. `half` makes a large one smaller."""
    state = {name: value.half() if half else value for name, value in model.state_dict().items()}
    torch.save(state if key is None else {key: state}, path)
    return path
