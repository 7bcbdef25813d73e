"""Launch configurations: each file has a `get_config()`; see default.py."""

# The keys of a config that are not hyperparameters; see jaxrank/experiments/config_files.py.
REFERENCES = ("linear", "shuffled")  # experiments that every launch trains
CATALOGUE_KEYS = ("experiments", "modes", *REFERENCES)
