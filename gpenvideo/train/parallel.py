"""One run in several processes, as torchrun starts them: the same network, each with a part of every batch.

What a step does depends on the batch and not on the number of processes: gradients are averaged over them,
batch norm and the discriminator's minibatch statistic look at groups of a fixed number of pictures, each
within one process, and batch norm's running statistics are the average over all groups.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gpenvideo.errors import DeviceError, OptionError
from gpenvideo.gpen.encoder import NormConv

__all__ = [
    "ALONE",
    "GroupedBatchNorm",
    "PeerGone",
    "Processes",
    "automatic",
    "launched",
    "norm_in_groups",
    "own_device",
]

PATIENCE = timedelta(hours=1)  # for a process that validates while the others wait


class PeerGone(SystemExit):
    """Another process of the run has ended; it has said why, so this one ends without a word."""

    code = 1


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run, seen from one of them: number `rank` of `world`."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    @torch.no_grad()
    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Set float32 tensors of one device to their mean over the processes: one message for all of them."""
        several = list(tensors)
        if self.world == 1 or not several:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in several])
        with _peers():
            dist.all_reduce(flat)
        flat /= self.world
        start = 0
        for tensor in several:
            tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()

    @torch.no_grad()
    def like_the_first_(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to what they are in the first process."""
        for tensor in tensors if self.world > 1 else ():
            same = tensor.contiguous()  # in memory's order, which a channels_last tensor's is not
            with _peers():
                dist.broadcast(same, 0)
            tensor.copy_(same)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in one of the processes; all wait for one another here."""
        if self.world == 1:
            return flag
        found = torch.tensor([float(flag)])  # on the CPU, so that no device is waited for
        with _peers():
            dist.all_reduce(found)
        return bool(found)

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Within, the first process is alone; the others follow: what it caches, they read."""
        if not self.first:
            self.any(False)
        yield
        if self.first:
            self.any(False)


ALONE = Processes()


@contextlib.contextmanager
def launched() -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one. Joining twice is joining once.

    Messages go through NCCL between GPUs and through Gloo between CPUs. Raises OptionError when the processes
    do not find one another.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE
        return
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(
            f"the processes of the run do not find one another: start them with torchrun ({reason})"
        ) from error
    yield Processes(dist.get_rank(), world)
    dist.destroy_process_group()  # after an error this process ends, and the others see it go


def automatic(device: str | None) -> str:
    """`device`, or for "auto" and None the GPU where there is one."""
    if device not in (None, "auto"):
        return str(device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def own_device(device: str, processes: Processes) -> str:
    """The device of this process: of "cuda", each has a GPU of its own.

    Raises DeviceError for a device that is not there, OptionError for one that several cannot share.
    """
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"there is no device {device!r}: take cpu, cuda or cuda:1") from error
    if kind.type == "cpu":
        return device
    if kind.type != "cuda":
        raise DeviceError(f"training runs on cpu or cuda, not on {device}")
    if not torch.cuda.is_available():
        raise DeviceError("there is no CUDA device here; train with device cpu")
    index: int | None = kind.index if ":" in device else None
    if processes.world > 1:
        if index is not None:
            raise OptionError(f"torchrun gives each process its own GPU: take device cuda, not {device}")
        index = int(os.environ.get("LOCAL_RANK", "0"))
    count = torch.cuda.device_count()
    if index is not None and index >= count:
        raise DeviceError(f"there is no cuda:{index}: this machine has {count} CUDA devices")
    if index is not None:
        torch.cuda.set_device(index)
    return device if index is None else f"cuda:{index}"


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """A message to the others that fails means that one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        raise PeerGone from error


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch norm over groups of `group` pictures in a row (N, C, H, W), N a multiple of it, or less than it.

    The running statistics move towards the mean of the groups' own. Also known as ghost batch norm (Hoffer et
    al. 2017); in evaluation it is plain batch norm.
    """

    def __init__(self, norm: nn.BatchNorm2d, group: int) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.shape[0] <= self.group:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        normed, found = [], []
        for part in torch.split(x, self.group):
            mean, variance = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
            # With a momentum of 1 the "running" statistics become those of this group.
            normed.append(F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps))
            found.append(torch.stack((mean, variance)))
        mean, variance = torch.stack(found).mean(dim=0)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1
        return torch.cat(normed)


def norm_in_groups(model: nn.Module, group: int) -> None:
    """Have every batch norm of `model` look at groups of `group` pictures, in place."""
    for module in model.modules():
        if isinstance(module, NormConv) and module.norm is not None:
            module.norm = GroupedBatchNorm(module.norm, group)
