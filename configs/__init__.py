"""Launch configurations: each file has a `get_config()`; see default.py."""

# The keys of a config that are not hyperparameters; see jaxrank/experiments/config_files.py.
REFERENCES = ("linear", "shuffled")  # experiments that every launch trains
# Hash of the data on which a search selected the values; see jaxrank/reporting/best_config.py.
SELECTED_ON = "selected_on"
CATALOGUE_KEYS = ("experiments", "modes", SELECTED_ON, *REFERENCES)
