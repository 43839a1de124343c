"""Run by test_distributed.py under torchrun: rank 0 prints how far the processes' gradients are from one process's.

Both from the same weights and the same batch of five, the first batch norm's running statistics included.
"""

import torch

from geometry.slots import LaneTarget
from losses_fixed import LaneLoss
from model import LaneNet
from runtime import distributed


def gradients(model, stepped, images, target, shared):
    """The gradient of each weight and the running statistics, after one step of training mode."""
    (points, logits), rows = stepped(images, with_rows=True)
    LaneLoss()(points, logits, target, rows, shared).total.backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    return found | {name: value.float() for name, value in model.named_buffers() if "running" in name}


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5, 3, 64, 96), generator=generator, dtype=torch.uint8)
    points = torch.rand(5, 6, 6, 2, generator=generator).sort(2).values
    target = LaneTarget(points, torch.rand(5, 6, generator=generator) > 0.4)
    models = []
    for _ in range(2):
        torch.manual_seed(1)
        models.append(LaneNet().train())
    one = gradients(models[0], models[0], images, target, lambda count: count)
    cpu = torch.device("cpu")
    with distributed.joined(cpu):
        model = distributed.with_shared_statistics(models[1], cpu)
        mine = LaneTarget(*map(distributed.share, target))
        two = gradients(model, distributed.shared(model, cpu), distributed.share(images), mine, distributed.mean)
        size = max(float(value.norm()) for value in one.values())
        worst = max(float((two[name] - value).norm() / max(float(value.norm()), 1e-3 * size))
                    for name, value in one.items())
        print(f"{distributed.world()} processes, worst difference {worst:.2e}")


if __name__ == "__main__":
    main()
