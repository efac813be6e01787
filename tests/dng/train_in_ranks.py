"""Script of test_distributed: a small regression trained by all ranks that torchrun starts, or by one process.

torchrun --nproc-per-node 2 -m tests.dng.train_in_ranks FOLDER CASE
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dng.training.distributed import Ranks, Shard, joined_ranks
from dng.training.loop import TrainConfig, train
from dng.training.seed import seeded
from zootool.errors import NumericalError

CONFIG = TrainConfig(
    steps=12, lr=1e-2, optimizer="adamw", weight_decay=0.5, clip=1.0, validate_every=4, higher_is_better=False, ema=0.5
)


class Model(nn.Module):
    """A sum of inputs; `spare` is used by whole batches of four alone, and by no gradient in between."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.spare = nn.Linear(1, 1)

    def forward(self, x: Tensor, with_spare: bool) -> Tensor:
        y = self.linear(x)
        return self.spare(y) if with_spare else y


class Regression:
    """Batches of 4, 3, 1, 4, ... rows: two ranks can't share them evenly, and one has nothing of the third."""

    def __init__(self, ranks: Ranks, poisoned: bool) -> None:
        with seeded(0):
            self.model, self.x = Model(), torch.randn(8, 3)
        self.y = self.x.sum(1, keepdim=True)
        if poisoned:
            self.y[3] = float("nan")
        self.ranks, self.step = ranks, 0

    def __iter__(self) -> Iterator[Any]:
        while True:
            rows = torch.arange(8).split([4, 3, 1])[self.step % 3]
            self.step += 1
            mine = rows[self.ranks.rank :: self.ranks.world_size]
            batch = (self.x[mine], self.y[mine], len(rows) == 4)
            yield batch if self.ranks.world_size == 1 else Shard(batch, len(mine) / len(rows))

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]

    def loss(self, batch: tuple[Tensor, Tensor, bool]) -> Tensor:
        return (self.model(batch[0], batch[2]) - batch[1]).square().mean()

    def validate(self) -> float:
        return (self.model(self.x, True) - self.y).square().mean().item()

    def describe(self, batch: tuple[Tensor, Tensor, bool]) -> str:
        return f"{len(batch[0])} rows"


def main(folder: Path, case: str) -> None:
    """Train in `folder`; each rank then writes its weights, or why it stopped, beside the run."""
    with joined_ranks(torch.device("cpu")) as ranks:
        task = Regression(ranks, poisoned=case == "poisoned")
        try:
            train(task, task, CONFIG, folder, ranks=ranks)
        except NumericalError as error:
            (folder / f"stopped-{ranks.rank}.txt").write_text(str(error))
        torch.save(task.model.state_dict(), folder / f"weights-{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
