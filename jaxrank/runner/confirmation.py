"""Confirmation: the experiments that may be the best, trained again and measured on series that the
search has never seen.

What was selected before is one experiment, so its accuracy there needs no correction. The others
are compared with it by intervals that hold at once.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank import train
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset
from jaxrank.devices import memory_limit
from jaxrank.evaluation import comparison, hits
from jaxrank.evaluation.evaluator import evaluate_cohort, make_evaluator
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.io import tables
from jaxrank.planning import planner
from jaxrank.planning.trials import Trial
from jaxrank.runner import trial_archive
from jaxrank.runner.prepare import Prepared
from jaxrank.training.checkpointing import Saver

CONFIRMATION_CSV = "confirmation.csv"
# Its cohorts among those of a search count down from here.
_NUMBER = -1_000

log = logging.getLogger("jaxrank")
