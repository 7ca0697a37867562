"""How good an encoder's features are, while it is pretrained: k-NN and a linear probe on labelled images, one call each."""

from hvs_data.evaluation.extraction import Features, features
from hvs_data.evaluation.logistic import linear, linear_accuracy
from hvs_data.evaluation.neighbours import knn, knn_accuracy

__all__ = ["Features", "features", "knn", "knn_accuracy", "linear", "linear_accuracy"]
