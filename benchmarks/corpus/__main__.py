"""Run `bnlab.diagnose`, and torch-audit beside it, over the corpus: `python -m benchmarks.corpus`.

Each planted fault counts as found by a tool if it names it: by its id, or for torch-audit by a rule about the same
thing (`RULES`). On healthy models every finding of these rules, and every warning or error of ours, is a false alarm.
torch-audit looks at training loops: it gets a step on each of up to eight batches, without the update, with the model
as it is and again in training mode. Ours gets the model as it is, and the batches.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.corpus import nets
from benchmarks.corpus.healthy import HEALTHY, Given
from benchmarks.corpus.planted import PLANTED
from bnlab import diagnose
from bnlab.chapters.troubleshooting.results import DiagnosisCorpus
from bnlab.diagnosis import CHECKS
from bnlab.diagnosis._probe import float_tensors
from bnlab.experiments import Provenance, save

OURS, PEER = "bnlab.diagnose", "torch-audit"
RULES = {  # what a rule of torch-audit 0.3.0 is about
    "TA100": "nonfinite-statistics",
    "TA103": "dead-channels",
    "TA105": "dead-channels",
    "TA302": "dead-channels",
    "TA304": "few-values",
    "TA400": "redundant-bias",
    "TA402": "decayed-affine",
    "TA405": "dead-channels",
    "TA500": "unused-layer",
    "TA501": "shared-layer",
}


def ours(given: Given) -> set[str]:
    """Return the ids that `bnlab.diagnose` finds."""
    return set(diagnose(given.model, given.batches, **given.options).ids)


def alarms_of_ours(given: Given) -> set[str]:
    """Return the ids of its warnings and errors."""
    report = diagnose(given.model, given.batches, **given.options)
    return {finding.id for finding in report.at_least("warning")}


def peer(given: Given) -> set[str]:
    """Return the ids of what torch-audit's rules find in a few training steps, with the model as it is and in
    training mode."""
    batches = list(given.batches or ())[:8]
    return _audited(given, batches) | _audited(replace(given, model=given.model.train()), batches)


def _audited(given: Given, batches: list) -> set[str]:
    from torch_audit import Auditor

    auditor = Auditor(given.model, optimizer=given.options.get("optimizer"), every_n_steps=1)
    with auditor, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auditor.audit_static()
        auditor.audit_init()
        for batch in batches:
            try:
                _step(auditor, given, batch)
            except Exception:  # a model that cannot take a step: what was seen before counts
                break
    return {
        RULES[found.rule_id]
        for found in auditor.findings
        if found.rule_id in RULES
        and not (found.rule_id == "TA402" and "Norm" not in found.message)  # the bias of a Linear
    }


def _step(auditor, given: Given, batch) -> None:
    call = given.options.get("call")
    if call is not None:
        output = call(auditor.forward, batch)
    elif isinstance(batch, dict):
        output = auditor.forward(**batch)
    else:
        output = auditor.forward(nets.first(batch))
    parts = [t.float().square().mean() for t in float_tensors(output) if t.requires_grad]
    if parts:
        auditor.backward(torch.stack(parts).sum())
        given.model.zero_grad()


def measured(seed: int = 0, rounds: int = 5) -> DiagnosisCorpus:
    """Run all tools over all models, and time ours."""
    tools: dict[str, tuple[Callable, Callable]] = {OURS: (ours, alarms_of_ours)}
    if importlib.util.find_spec("torch_audit"):
        tools[PEER] = (peer, peer)
    ids = tuple(CHECKS)
    planted = np.array([sum(id == one for one, _ in PLANTED) for id in ids])
    found, alarms = np.zeros((2, len(tools), len(ids)), dtype=int)
    models = np.zeros(len(tools), dtype=int)
    for tool, (look, cry) in enumerate(tools.values()):
        for (id, _), make in PLANTED.items():
            found[tool, ids.index(id)] += id in look(_made(make, seed))
        for make in HEALTHY.values():
            false = cry(_made(make, seed))
            models[tool] += bool(false)
            for id in false:
                alarms[tool, ids.index(id)] += 1
    names, ratio = _times(rounds)
    return DiagnosisCorpus(
        ids=ids, tools=tuple(tools), planted=planted, found=found, healthy=len(HEALTHY), alarms=alarms,
        alarmed=models, networks=names, rounds=rounds, passes=ratio,
    )  # fmt: skip


def _made(make: Callable[[], Given], seed: int) -> Given:
    torch.manual_seed(seed)
    return make()


def _times(rounds: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Time ours in plain passes over the same batches, in pairs, processor time."""
    cases = {
        "ResNet, 10 batches of 32": (nets.ResNet(32), nets.images(10, 32, 32)),
        "MobileNet, 10 batches of 32": (nets.MobileNet(32), nets.images(10, 32, 32)),
        "U-Net, 10 batches of 16": (nets.UNet(16), nets.images(10, 16, 32)),
        "small perceptron, 30 batches of 256": (nets.Mlp(256, 512), nets.vectors(30, 256, 256)),
    }
    ratio = np.empty((len(cases), rounds))
    for i, (model, batches) in enumerate(cases.values()):
        model = nets.settle(model, batches, passes=2)
        for k in range(rounds + 1):
            first, mine, last = (_seconds(f, model, batches) for f in (_plain, diagnose, _plain))
            if k:  # the first round warms up
                ratio[i, k - 1] = 2 * mine / (first + last)
    return tuple(cases), np.median(ratio, axis=1)


def _plain(model: torch.nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for x, _ in batches:
            model(x)


def _seconds(run: Callable, *arguments) -> float:
    start = time.process_time()
    run(*arguments)
    return time.process_time() - start


def main() -> None:
    """Print the table; with --save, store it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="store the result in this .npz")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    result = measured(options.seed, options.rounds)
    print(result.table())
    if options.save:
        config = {"seed": options.seed, "rounds": options.rounds}
        origin = Provenance.now(
            seeds=(options.seed,), config=config, duration=time.perf_counter() - start
        )
        save(result, options.save, provenance=origin)


if __name__ == "__main__":
    main()
