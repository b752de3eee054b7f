"""Put together what the processes of a distributed program have found in their shares of the data."""

from __future__ import annotations

from typing import Any

from torch import distributed


def of_all_ranks(task: str, mine: Any, error: Exception | None) -> list[Any]:
    """Return what each rank found, in the order of ranks, on every rank; raise if any rank failed.

    Errors travel, too: a rank that left early would let the others wait for it.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        if error is not None:
            raise error
        return [mine]
    shares: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, (mine, None if error is None else repr(error)))
    if error is not None:
        raise error
    for rank, (_, other) in enumerate(shares):
        if other is not None:
            raise RuntimeError(f"{task} failed on rank {rank}: {other}")
    return [share for share, _ in shares]
