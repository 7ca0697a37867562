"""Self-supervised pretraining in several arms: methods, networks, training, probes, experiments and their runs."""
