"""The loss of SupContrast's losses.py."""

import torch
from torch import nn


class SupConLoss(nn.Module):
    """Features [B, V, D] at length 1 and labels [B]: every view against all others, with all views of its class as positives."""

    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, labels):
        views = features.shape[1]
        features = torch.cat(features.unbind(dim=1))
        own = torch.eye(len(features), dtype=torch.bool, device=features.device)
        positive = (labels[:, None] == labels).repeat(views, views) & ~own
        log_share = (features @ features.T / self.temperature).masked_fill(own, -torch.inf).log_softmax(dim=1)
        return -(log_share.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()
