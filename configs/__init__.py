"""Launch configurations: each file has a `get_config()`; see default.py."""

# The keys of a config that are no hyperparameters; see jaxrank/experiments.py.
CATALOGUE_KEYS = ("experiments", "modes", "linear")
