"""The stream of batches of a run: a counter, and on an accelerator one batch fetched ahead."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from ganwright.data.spec import Batch, Dataset, move_batch, slice_batch


class BatchStream:
    """Draws batches one after another.

    Args:
        dataset: Where from.
        batch_size: Rows of the global batch.
        seed: The run's seed.
        device: Where batches go.
        rank: This process.
        world_size: Number of processes.
        position: Batches already drawn (a resumed run).
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        position: int = 0,
    ) -> None:
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.device, self.rank, self.world_size = device, rank, world_size
        self.position = position
        self._ahead: Future[Batch] | None = None
        self._pool = None if device.type == "cpu" else ThreadPoolExecutor(1, "batches")

    def next(self) -> Batch:
        """This process's rows of the next batch, on the device."""
        batch = self._read(self.position) if self._ahead is None else self._ahead.result()
        self.position += 1
        if self._pool is not None:
            self._ahead = self._pool.submit(self._read, self.position)
        return move_batch(batch, self.device)

    def _read(self, index: int) -> Batch:
        whole = self.dataset.batch(index, self.batch_size, seed=self.seed)
        batch = slice_batch(whole, self.rank, self.world_size)
        if self.device.type == "cuda":  # pinned memory lets the copy run beside the computation
            return {name: tensor.pin_memory() for name, tensor in batch.items()}
        return batch

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
