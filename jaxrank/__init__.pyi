"""The public API: the one list of its names, for type checkers and for __init__.py."""

from ._version import __version__ as __version__
from .audit.api import audit_data as audit_data
from .audit.checks import Audit as Audit
from .data.feature_store import Block as Block
from .data.feature_store import open_feature_store as open_feature_store
from .data.feature_store import write_block as write_block
from .data.importers import read_block_csv as read_block_csv
from .data.importers import read_block_npy as read_block_npy
from .data.importers import read_block_safetensors as read_block_safetensors
from .data.preferences import Preferences as Preferences
from .data.preferences import read_preferences as read_preferences
from .data.synthetic import simulate as simulate
from .errors import UserError as UserError
from .experiments.catalogue import read_catalogue as read_catalogue
from .inference.evaluate import Evaluation as Evaluation
from .inference.evaluate import evaluate_model as evaluate_model
from .inference.rank import Ranking as Ranking
from .inference.rank import rank_photos as rank_photos
from .inference.saved_model import Model as Model
from .inference.saved_model import load_model as load_model
from .runner.device_profile import read_device_profile as read_device_profile
from .runner.search import SearchResult as SearchResult
from .runner.search import search as search
from .sampling import BalancedSeriesBatchSampler as BalancedSeriesBatchSampler
from .sampling import SeriesAwareBatchSampler as SeriesAwareBatchSampler
