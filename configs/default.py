"""The defaults of every launch and the catalogue of ten experiments.

    python launch.py search --mode=quick            # this file is the default --config
    python launch.py search --config=configs/default.py --config.weight_decay=1e-3

--config.KEY=VALUE applies to every experiment of the launch and overrides the catalogue.
--config.experiments.NAME.KEY=VALUE applies to one experiment and overrides both.

On two CPU cores and the embedded (simulated) data, the mode quick takes half a minute and full
about two minutes. Expect validation accuracies of 60 to 69%, and 55 to 60% for iqa_only.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # Inputs: the columns of these blocks, side by side, scaled on the training photos.
    config.blocks = "all"  # comma separated, such as "clip,iqa"; "all" is all blocks of the store
    config.use_clip = True  # False takes a block out of "all"
    config.use_cnn_features = True
    config.use_iqa_features = True
    config.l2_blocks = ""  # blocks whose vectors are first divided by their length; or "all"
    # "auto": blocks of at most 32 columns as normal scores (the normal quantile of a number's rank
    # among the training photos), others standardised; "standard" or "normal_scores": every block
    config.input_scaling = "auto"

    # Model: [Dense, activation, dropout]* -> Dense(1).
    config.mlp_hidden_dims = "256"  # comma separated; empty is a linear scorer
    config.activation = "relu"  # or "gelu", "tanh"
    config.use_layernorm = False  # True: each photo's input vector gets mean 0 and variance 1
    config.dropout = 0.3

    # Training.
    config.batch_size = 64  # pairs
    # Precision of wide layers' matrix products in training: "highest" (float32), "tf32" (on GPUs
    # that have it) or "bfloat16"; weights, sums and the scores of every table are always float32
    config.precision = "highest"
    config.optimizer = "adamw"  # or "sgd"
    config.learning_rate = 1e-4
    config.weight_decay = 1e-4
    config.momentum = 0.9  # of sgd
    config.schedule = "constant"  # of the learning rate; or "cosine", to zero after max_epochs
    config.warmup_epochs = 0.0  # epochs in which the learning rate rises to its full value
    config.loss = "margin_ranking"  # or "logistic", "davidson"
    config.margin = 1.0  # of margin_ranking
    config.sampler = "random"  # or "balanced", "distinct", "series_aware"
    config.use_series_sampler = False  # True means sampler "balanced"
    config.max_epochs = 30
    config.patience = 6  # epochs without a better validation accuracy
    config.seed = -1  # first seed of an experiment's trials; -1 is the seed of the launch

    # Augmentation, in training only.
    config.feature_noise = 0.0  # standard deviation of noise on the standardised inputs
    config.mixup = 0.0  # parameter of the Beta distribution of shares; 0.2 is customary
    config.label_smoothing = 0.0  # share of labels taken as unknown

    config.notes = ""
    # Hash of the data on which a search selected these values; best_config.py sets it.
    config.selected_on = ""

    # The catalogue: the keys that each experiment changes. A name is also the name of a folder, and
    # may contain dots.
    experiments = {
        "baseline": {
            "mlp_hidden_dims": "512,256",
        },
        "simple_mlp": {
            "mlp_hidden_dims": "256",
        },
        "tiny_mlp": {
            "mlp_hidden_dims": "128",
            "batch_size": 128,
            "learning_rate": 5e-4,
        },
        "clip_only": {
            "batch_size": 128,
            "learning_rate": 5e-4,
            "blocks": "clip",
        },
        "cnn_only": {
            "batch_size": 128,
            "learning_rate": 5e-4,
            "blocks": "cnn",
        },
        "iqa_only": {
            "mlp_hidden_dims": "32",
            "batch_size": 256,
            "learning_rate": 1e-3,
            "blocks": "iqa",
        },
        "high_dropout": {
            "mlp_hidden_dims": "512,256",
            "dropout": 0.5,
        },
        "larger_batches": {
            "batch_size": 256,
            "learning_rate": 1e-3,
        },
        "high_lr": {
            "batch_size": 128,
            "learning_rate": 1e-3,
        },
        "low_lr": {
            "batch_size": 128,
            "learning_rate": 5e-5,
        },
    }
    config.experiments = ConfigDict(experiments, allow_dotted_keys=True)
    config.modes = {
        "quick": ("simple_mlp", "tiny_mlp", "clip_only"),
        "regularization": ("high_dropout", "larger_batches", "tiny_mlp"),
        "features": ("clip_only", "cnn_only", "iqa_only"),
        "learning_rate": ("simple_mlp", "high_lr", "low_lr"),
        "full": tuple(experiments),
    }

    # The linear scorer, a reference in every table: logistic regression. Its batches are small, so
    # that the best epoch is found among many small steps. Overrides of the launch do not apply.
    config.linear = {
        "mlp_hidden_dims": "",
        "dropout": 0.0,
        "batch_size": 64,
        "learning_rate": 1e-4,
        "loss": "logistic",
        "notes": "reference: linear, all blocks",
    }
    # The permutation control: photos are permuted inside each series. It has nothing to learn, so
    # accuracy above chance means a leak. As tiny_mlp, with which it shares a program.
    config.shuffled = {
        "mlp_hidden_dims": "128",
        "batch_size": 128,
        "learning_rate": 5e-4,
        "notes": "permutation control: photos permuted within each series",
    }
    return config
