"""What dinov2/train/ssl_meta_arch.py of facebookresearch/dinov2 holds, in small: networks, losses, and the step that joins them."""

import copy
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from .utils import sum_over_processes, update_teacher
from .vision_transformer import DINOHead, VisionTransformer


def configuration(args):
    """As the repository's YAML files have it, of the command line."""
    return SimpleNamespace(
        crops=SimpleNamespace(global_crops_size=args.size[0], local_crops_number=8),
        student=SimpleNamespace(patch_size=args.patch_size, num_register_tokens=args.registers),
        train=SimpleNamespace(centering=args.centering),
        dino=SimpleNamespace(head_n_prototypes=args.out_dim, loss_weight=1.0, koleo_loss_weight=0.1),
        ibot=SimpleNamespace(head_n_prototypes=args.out_dim, loss_weight=1.0, separate_head=not args.shared_head),
    )


class DinoVisionTransformer(VisionTransformer):
    """Pixels [N, 3, S, S], and masks bool [N, P] of hidden patches -> normed tokens; with register tokens between class and patches."""

    def __init__(self, img_size, patch_size, num_register_tokens):
        super().__init__(img_size, patch_size)
        self.num_register_tokens = num_register_tokens
        self.mask_token = nn.Parameter(torch.zeros(1, self.embed_dim))
        self.register_tokens = nn.Parameter(torch.randn(1, num_register_tokens, self.embed_dim) * 0.02)

    def forward(self, x, masks=None, is_training=False):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        if masks is not None:
            x = torch.where(masks[..., None], self.mask_token.to(x.dtype), x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions(x.shape[1])
        x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return {"x_norm_clstoken": x[:, 0], "x_norm_patchtokens": x[:, 1 + self.num_register_tokens :]} if is_training else x[:, 0]


class Targets(nn.Module):
    """Targets of a teacher's logits [N, K], centred by their running mean, which is updated when it is used next, or by Sinkhorn-Knopp."""

    def __init__(self, *shape):
        super().__init__()
        self.student_temp, self.center_momentum = 0.1, 0.9
        self.register_buffer("center", torch.zeros(*shape))
        self.updated, self.reduce_handle, self.len_teacher_output, self.async_batch_center = True, None, None, None

    @torch.no_grad()
    def softmax_center_teacher(self, logits, teacher_temp):
        if not self.updated:
            self.reduce_handle.wait()
            mean = self.async_batch_center / (self.len_teacher_output * dist.get_world_size())
            self.center = self.center * self.center_momentum + mean * (1 - self.center_momentum)
            self.updated = True
        return ((logits - self.center.flatten()) / teacher_temp).softmax(-1)

    @torch.no_grad()
    def update_center(self, logits):
        self.updated, self.len_teacher_output = False, len(logits)
        self.async_batch_center = logits.sum(0).view_as(self.center)
        self.reduce_handle = dist.all_reduce(self.async_batch_center, async_op=True)

    @torch.no_grad()
    def sinkhorn_knopp_teacher(self, logits, teacher_temp, n_iterations=3):
        codes = (logits.float() / teacher_temp).exp()
        samples = sum_over_processes(torch.tensor(float(len(codes))))
        codes = codes / sum_over_processes(codes.sum())
        for _ in range(n_iterations):
            codes = codes / sum_over_processes(codes.sum(0)) / codes.shape[1]
            codes = codes / codes.sum(1, keepdim=True) / samples
        return codes * samples

    def cross_entropy(self, student, target):
        return -(target * (student / self.student_temp).log_softmax(-1)).sum(-1)


class DINOLoss(Targets):
    def __init__(self, out_dim):
        super().__init__(1, out_dim)

    def forward(self, student_output_list, teacher_out_softmaxed_centered_list):
        return sum(self.cross_entropy(s, t).mean() for s in student_output_list for t in teacher_out_softmaxed_centered_list)


class iBOTPatchLoss(Targets):  # noqa: N801, as the repository names it
    def __init__(self, patch_out_dim):
        super().__init__(1, 1, patch_out_dim)

    def forward_masked(self, student, target, masks, masks_weight):
        return (self.cross_entropy(student, target) * masks_weight).sum() / len(masks)


class KoLeoLoss(nn.Module):
    """Minus the mean logarithm of the distance to the nearest other image of the batch."""

    def forward(self, tokens):
        tokens = F.normalize(tokens, dim=-1)
        products = (tokens @ tokens.T).fill_diagonal_(-1)
        return -((tokens - tokens[products.argmax(1)]).norm(dim=1) + 1e-8).log().mean()


class SSLMetaArch(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        vit = DinoVisionTransformer(cfg.crops.global_crops_size, cfg.student.patch_size, cfg.student.num_register_tokens)
        self.student = nn.ModuleDict({"backbone": vit, "dino_head": DINOHead(vit.embed_dim, cfg.dino.head_n_prototypes)})
        if cfg.ibot.separate_head:
            self.student["ibot_head"] = DINOHead(vit.embed_dim, cfg.ibot.head_n_prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.dino_loss, self.koleo_loss = DINOLoss(cfg.dino.head_n_prototypes), KoLeoLoss()
        self.ibot_patch_loss = iBOTPatchLoss(cfg.ibot.head_n_prototypes)
        self.dino_loss_weight, self.ibot_loss_weight = cfg.dino.loss_weight, cfg.ibot.loss_weight

    def head(self, network):
        return network["ibot_head" if self.cfg.ibot.separate_head else "dino_head"]

    @torch.no_grad()
    def targets(self, crops, indices, teacher_temp):
        """Of the class tokens, each crop's beside the other one, and of the masked patches."""
        tokens = self.teacher["backbone"](crops, is_training=True)
        classes = self.teacher["dino_head"](torch.cat(tokens["x_norm_clstoken"].chunk(2)[::-1]))
        patches = self.head(self.teacher)(tokens["x_norm_patchtokens"].flatten(0, 1)[indices])
        found = []
        for loss, logits in ((self.dino_loss, classes), (self.ibot_patch_loss, patches)):
            if self.cfg.train.centering == "sinkhorn_knopp":
                found.append(loss.sinkhorn_knopp_teacher(logits, teacher_temp))
            else:
                found.append(loss.softmax_center_teacher(logits, teacher_temp))
                loss.update_center(logits)
        return found

    def forward_backward(self, images, teacher_temp):
        device = self.dino_loss.center.device
        names = ("collated_global_crops", "collated_local_crops", "collated_masks", "mask_indices_list", "masks_weight")
        crops, local_crops, masks, indices, masks_weight = (images[name].to(device, non_blocking=True) for name in names)
        locals_ = self.cfg.crops.local_crops_number
        terms = 2 + 2 * locals_
        class_targets, patch_targets = self.targets(crops, indices, teacher_temp)

        tokens = self.student["backbone"](crops, masks=masks, is_training=True)
        local_tokens = self.student["backbone"](local_crops, is_training=True)["x_norm_clstoken"]
        logits, local_logits = (self.student["dino_head"](part) for part in (tokens["x_norm_clstoken"], local_tokens))
        patches = self.head(self.student)(tokens["x_norm_patchtokens"].flatten(0, 1)[indices])

        losses = {
            "dino_local_crops_loss": self.dino_loss(local_logits.chunk(locals_), class_targets.chunk(2)) / terms * self.dino_loss_weight,
            "dino_global_crops_loss": self.dino_loss([logits], [class_targets]) * 2 / terms * self.dino_loss_weight,
            "koleo_loss": sum(self.koleo_loss(part) for part in tokens["x_norm_clstoken"].chunk(2)) * self.cfg.dino.koleo_loss_weight,
            "ibot_loss": self.ibot_patch_loss.forward_masked(patches, patch_targets, masks, masks_weight) * self.ibot_loss_weight,
        }
        sum(losses.values()).backward()
        return losses

    def update_teacher(self, momentum):
        update_teacher(self.student, self.teacher, momentum)

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self
