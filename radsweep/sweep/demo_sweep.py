"""Which sweep a demo runs: light, so that ``plan`` and ``status`` of a demo need no GPU stack."""

import dataclasses

from radsweep.specs import Budget, Sweep, settings
from radsweep.sweep.load import load_sweep

SWEEP = "radsweep.jobs.demo"

MINIATURE_IMAGES = (16, 48)
MINIATURE_STEPS = 4
"""The smoke test: every step of the demo, too small to learn from."""

SWEEP_FILE = '''\
"""The sweep of this demo: an argument of `radsweep plan`, `run`, `scores` and `dash`."""

from radsweep.sweep.demo_sweep import demo_sweep

SWEEP = demo_sweep(seed={seed}, miniature={miniature})
'''
"""What a demo leaves beside its store, so that every other command finds it."""


def demo_sweep(seed: int, miniature: bool) -> Sweep:
    """The demo's sweep under another seed or size.

    Args:
        seed: of patients' order, of initial weights and of augmentation.
        miniature: two scales and a few steps instead.
    """
    sweep = dataclasses.replace(
        load_sweep(SWEEP),
        seeds=(seed,),
        subset_seed=seed,
        # Nobody is in these pictures. Here and not in the job, which hospitals copy.
        may_show_images=True,
    )
    if not miniature:
        return sweep
    assert sweep.protocol is not None
    steps = {"segment.steps": MINIATURE_STEPS, "report.steps": MINIATURE_STEPS}
    protocol = dataclasses.replace(
        sweep.protocol,
        bootstraps=100,
        # One more than the first, so that Optuna is asked.
        search_trials=2,
        settings=settings({**dict(sweep.protocol.settings), **steps}),
    )
    budget = Budget(steps=MINIATURE_STEPS, batch_size=sweep.budget.batch_size)
    return dataclasses.replace(sweep, images=MINIATURE_IMAGES, budget=budget, protocol=protocol)
