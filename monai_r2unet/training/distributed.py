"""Several processes that train one network, started by torchrun: on GPUs with NCCL, on CPUs with gloo.

docs/how-to/distributed.md explains how this compares with training in one process, and what ends or restarts a job.
"""

from __future__ import annotations

import os
from collections.abc import Sized
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from monai_r2unet.errors import InputError

__all__ = ["agree", "meet", "parallel", "share", "start"]

# Hosts read their data at different speeds: waiting for the slowest to load is not waiting for a lost one.
LOADING = timedelta(minutes=30)


def start(device: torch.device | str, timeout: float) -> None:
    """Join the other processes of the job.

    Args:
        device: This process's device; selects NCCL or gloo.
        timeout: Seconds that a process waits for the others, in any collective step, before it fails.

    Raises:
        InputError: if torchrun did not start this process, or the timeout is not a positive number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
        raise InputError(f"timeout is {timeout!r}, expected seconds, a number above 0")
    if "WORLD_SIZE" not in os.environ:
        raise InputError(
            "multi_gpu_train.json is for several processes, and this one was started alone; start them with torchrun "
            "--standalone --nproc_per_node=N -m monai.bundle run ..., or leave that file out"
        )
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        backend, wait = "nccl" if device.type == "cuda" else "gloo", timedelta(seconds=timeout)
        store, rank, processes = next(rendezvous("env://", timeout=wait))
        # torchrun keeps one store across restarts; this attempt must not find the addresses of the previous one.
        prefixed = distributed.PrefixStore  # type: ignore[attr-defined]
        attempt = prefixed(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        distributed.init_process_group(backend, store=attempt, rank=rank, world_size=processes, timeout=wait)


def parallel(network: nn.Module) -> DistributedDataParallel:
    """Wrap ``network`` so that all processes train it together, starting from the weights of the first.

    On GPUs its batch norms use the batches of all processes as one. PyTorch has no synchronised batch norm for CPUs.
    """
    device = next(network.parameters()).device
    if device.type != "cuda":
        return DistributedDataParallel(network)
    return DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(network), device_ids=[device])


def meet(training: Sized, validation: Sized, shared_out: bool) -> None:
    """Wait until every process has loaded its data; this timeout is much longer than any later one.

    Args:
        training: Training data set of this process.
        validation: Validation data set of this process.
        shared_out: A sampler divides the items among the processes, so each process needs at least one.

    Raises:
        InputError: if there are fewer items than processes.
    """
    processes = distributed.get_world_size()
    for name, data in (("training", training), ("validation", validation)) if shared_out else ():
        if len(data) < processes:
            raise InputError(
                f"the {name} data have {len(data)} slices for {processes} processes, expected at least one for each; "
                "start fewer processes"
            )
    # Over gloo on GPUs too: NCCL has no barrier with its own time limit.
    group = distributed.new_group(backend="gloo", timeout=LOADING)
    distributed.monitored_barrier(group, LOADING)
    distributed.destroy_process_group(group)


def agree(answer: str) -> str:
    """The first non-empty answer, in the order of the processes; without other processes, this one's own."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return answer
    answers = [""] * distributed.get_world_size()
    distributed.all_gather_object(answers, answer)
    return next(filter(None, answers), "")


def share(network: nn.Module) -> None:
    """Give every process the weights and statistics that ``network`` has in the first one."""
    if distributed.is_available() and distributed.is_initialized():
        for tensor in network.state_dict().values():
            distributed.broadcast(tensor, 0)
