"""Chapter 6: the experiments whose results are stored."""

from __future__ import annotations

from typing import Any

from bnlab.chapters.gradient_flow import explosion, learning_rates
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]


def _growth(activation: str, batch_size: int, seeds: int) -> tuple[LongExperiment, LongExperiment]:
    """Return what measures the growth of gradients over batch sizes, and over widths at one batch size."""
    common: dict[str, Any] = {"by_seed": ("rate",), "chapter": 6, "tolerance": 1e-4}
    sizes = LongExperiment.of(
        explosion.explosion_rates,
        name=f"gradient-flow-explosion-{activation}",
        summary=f"Growth of the gradient per layer over batch sizes, {activation}",
        defaults={
            "activation": activation, "batch_sizes": [8, 16, 32, 64], "width": 1024, "depth": 16,
            "seeds": list(range(100, 110)),
        },
        check=explosion.repeat_explosion,
        **common,
    )  # fmt: skip
    widths = LongExperiment.of(
        explosion.width_rates,
        name=f"gradient-flow-widths-{activation}",
        summary=f"Growth of the gradient per layer over widths, {activation}, batches of {batch_size}",
        defaults={
            "activation": activation, "batch_size": batch_size, "widths": [128, 256, 512], "depth": 16,
            "seeds": seeds,
        },
        check=explosion.repeat_widths,
        **common,
    )  # fmt: skip
    return sizes, widths


EXPERIMENTS = (
    *_growth("relu", batch_size=256, seeds=20),
    *_growth("linear", batch_size=8, seeds=40),
    LongExperiment.of(
        explosion.depth_ratios,
        name="gradient-flow-ratios",
        summary="Gradient of the first of 50 layers over that of the last, while they train",
        defaults={"lrs": [0.1, 0.01], "checkpoints": [0, 1, 10, 100], "seeds": 10},
        chapter=6,
        check=explosion.repeat_ratios,
        tolerance=1e-3,
    ),
    *(
        LongExperiment.of(
            learning_rates.sweep_arm,
            by_seed=("loss", "stable", "accuracy", "growth"),
            name=f"gradient-flow-rates-{label.replace(' ', '-')}",
            summary=f"Learning rates at which digits are still learned, arm {label!r}",
            defaults={"label": label, **arm, "seeds": list(range(700, 716))},
            chapter=6,
            check=learning_rates.repeat,
            tolerance=1e-3,
        )
        for label, arm in learning_rates.ARMS.items()
    ),
)
"""Each makes the file of its name in ``book/results``."""
