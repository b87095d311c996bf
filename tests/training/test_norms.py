"""The statistics of batch norm fit the weights when a network is validated."""

import torch
from ignite.engine import Engine, Events
from monai.inferers import SimpleInferer
from torch import nn

from monai_r2unet.training.norms import NormStatistics


def run(network: nn.Module, batches: list[torch.Tensor], kept: int, epochs: int = 1) -> list[dict[str, torch.Tensor]]:
    """Statistics that validation sees after each epoch of a trainer that changes the weights at every step."""

    def step(engine: Engine, batch: dict[str, torch.Tensor]) -> None:
        network.train()
        with torch.no_grad():
            network[0].weight.mul_(2)
        network(batch["image"])

    trainer = Engine(step)
    trainer.state.device = torch.device("cpu")
    NormStatistics(network, SimpleInferer(), batches=kept).attach(trainer)
    seen = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: seen.append({k: v.clone() for k, v in network[1].state_dict().items()})
    )
    trainer.run([{"image": batch} for batch in batches], max_epochs=epochs)
    return seen


def network_and_batches() -> tuple[nn.Module, list[torch.Tensor]]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3))
    return network, [torch.rand(2, 1, 8, 8) + i for i in range(6)]


def test_they_are_those_of_the_last_batches_under_the_last_weights():
    network, batches = network_and_batches()
    (seen,) = run(network, batches, kept=2)
    outputs = [network[0](batch) for batch in batches[-2:]]
    means = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variances = torch.stack([output.transpose(0, 1).flatten(1).var(1) for output in outputs]).mean(0)
    torch.testing.assert_close(seen["running_mean"], means)
    torch.testing.assert_close(seen["running_var"], variances)


def test_training_goes_on_with_its_momentum_and_mode():
    network, batches = network_and_batches()
    network.train()
    weights = network[0].weight.clone()
    first, second = run(network, batches, kept=3, epochs=2)
    assert network.training
    assert network[1].momentum == 0.1
    assert network[0].weight.grad is None
    torch.testing.assert_close(network[0].weight, weights * 2**12)
    torch.testing.assert_close(second["running_mean"], first["running_mean"] * 2**6)
