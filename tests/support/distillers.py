"""Small trainers of DINO and iBOT, as the methods' own code trains them, and their losses in float64."""

import copy
import math
from contextlib import contextmanager

import torch
from lightly.models.utils import update_momentum
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from hvs_data import objectives
from hvs_data.recipes import Masking
from multi_crop import GLOBAL_SIDE, make_recipe, make_rows
from trainers import Trainer, make_encoder

WIDTH, PROTOTYPES, PATCH_PROTOTYPES, PATCH = 6, 20, 12, 2


# ---- the published losses, in float64 ----


def cross_entropy(teacher, student, center, teacher_temperature, student_temperature):
    """Of rows [..., K] -> [...]."""
    target = ((teacher.double() - center.double()) / teacher_temperature).softmax(-1)
    return -(target * (student.double() / student_temperature).log_softmax(-1)).sum(-1)


def dino_loss(teachers, students, center, teacher_temperature=0.04, student_temperature=0.1, term=cross_entropy):
    """DINOLoss of facebookresearch/dino before its mean over the batch: lists of 2 and V tensors [B, K] -> float64 [B]."""
    terms = [
        term(teacher, student, center, teacher_temperature, student_temperature)
        for t, teacher in enumerate(teachers)
        for s, student in enumerate(students)
        if s != t
    ]
    return torch.stack(terms).mean(0)


def effect_of_rounding(u):
    """A function like :func:`cross_entropy` of how far a term moves when each logit z moves by up to u |z|, to first order.

    Of ``CE = lse(y) - sum_k w_k y_k`` with weights w = softmax(x) and probabilities p = softmax(y), the derivative by x_k is
    -w_k (y_k - sum w y) and that by y_k is p_k - w_k. A fifth is added for what is of second order: moves of x and y of up to a tenth
    change the derivatives by a factor of at most e^0.2.
    """

    def moved(teacher, student, center, teacher_temperature, student_temperature):
        teacher, student = teacher.double(), student.double()
        assert u * max(float(teacher.abs().max()) / teacher_temperature, float(student.abs().max()) / student_temperature) <= 0.1
        w, y = ((teacher - center.double()) / teacher_temperature).softmax(-1), student / student_temperature
        by_x = w * (y - (w * y).sum(-1, keepdim=True))
        by_y = y.softmax(-1) - w
        parts = (by_x.abs() * teacher.abs() / teacher_temperature + by_y.abs() * y.abs()).sum(-1)
        return 1.25 * u * parts

    return moved


def patch_loss(teachers, students, masks, center, teacher_temperature=0.07, student_temperature=0.1):
    """The second part of iBOTLoss of bytedance/ibot before its mean over the batch: lists of [B, P, K] and bool [B, G, G]."""
    terms = []
    for teacher, student, mask in zip(teachers, students, masks, strict=True):
        hidden = mask.flatten(1).double()
        loss = cross_entropy(teacher, student, center, teacher_temperature, student_temperature)
        terms.append((loss * hidden).sum(1) / hidden.sum(1).clamp_min(1))
    return torch.stack(terms).mean(0)


def msn_codes(targets, prototypes, temperature=0.1, sharpening=0.25, iterations=3):
    """The targets' codes as lightly's MSNLoss makes them: embeddings [B, D] -> float64 [B, K]."""
    logits = nn.functional.normalize(targets.double(), dim=1) @ nn.functional.normalize(prototypes.double(), dim=1).T
    code = (logits / (temperature * sharpening)).softmax(1)
    if iterations:
        code = code / code.sum()
    for _ in range(iterations):
        code = code / code.sum(0) / code.shape[1]
        code = code / code.sum(1, keepdim=True) / code.shape[0]
    return code * code.shape[0] if iterations else code


def msn_loss(target, anchors, prototypes, temperature=0.1, **code):
    """MSNLoss of facebookresearch/msn before its mean over the batch, without the entropy: [B, D] and a list of [B, D] -> float64 [B]."""
    codes, unit_prototypes = msn_codes(target, prototypes, temperature, **code), nn.functional.normalize(prototypes.double(), dim=1)
    logits = [nn.functional.normalize(anchor.double(), dim=1) @ unit_prototypes.T / temperature for anchor in anchors]
    return torch.stack([-(codes * z.log_softmax(1)).sum(1) for z in logits]).mean(0)


def rounding(teacher_temperature, student_temperature, logits, prototypes):
    """How far a float32 term of logits up to a size may be off: see ``bound`` in cross_entropies.py, whose X and Y these are."""
    X, Y, K = 2 * logits / teacher_temperature, logits / student_temperature, prototypes
    return 1.1 * 2.0**-24 * (6 * X * Y + 4 * Y + 2 * Y * (4 * X + 10) + 2 * (K + 1) * Y + Y + 8 * Y + 10 + K + 1 + 6 * math.log(K) + 4)


# ---- networks ----


class MultiCrop(nn.Module):
    """Runs views of each size together and hands all features to the head, as DINO's MultiCropWrapper does."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, views):
        views = views if isinstance(views, list) else [views]
        sizes = [view.shape[-1] for view in views]
        groups = [torch.cat([view for view in views if view.shape[-1] == size]) for size in dict.fromkeys(sizes)]
        return self.head(torch.cat([self.backbone(group) for group in groups]))


class PatchBackbone(nn.Module):
    """A transformer in small: patch and class tokens, a mask token, drop path; refuses views without masks when it expects them."""

    def __init__(self, masked_im_modeling):
        super().__init__()
        self.masked_im_modeling = masked_im_modeling
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.block = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.drop_path = StochasticDepth(0.3, "row")
        if masked_im_modeling:
            self.masked_embed = nn.Parameter(torch.randn(1, WIDTH))

    def forward(self, pixels, mask=None):
        tokens = self.patches(pixels.to(self.patches.weight.dtype))
        if self.masked_im_modeling:
            assert mask is not None
            tokens = torch.where(mask[:, None], self.masked_embed[..., None, None].to(tokens.dtype), tokens)
        tokens = tokens.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)
        mixed = torch.cat([tokens, tokens.mean(1, keepdim=True).expand_as(tokens)], dim=2)
        return tokens + self.drop_path(self.block(mixed))


class MaskedHead(nn.Module):
    """Class and patch logits, of one head or of two."""

    def __init__(self, shared):
        super().__init__()
        self.for_class = nn.Linear(WIDTH, PROTOTYPES)
        self.for_patches = self.for_class if shared else nn.Linear(WIDTH, PATCH_PROTOTYPES)

    def forward(self, tokens):
        return self.for_class(tokens[:, 0]), self.for_patches(tokens[:, 1:])


class MaskedMultiCrop(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, views, mask=None):
        views, mask = (views, mask) if isinstance(views, list) else ([views], None if mask is None else [mask])
        return self.head(self.backbone(torch.cat(views), **({} if mask is None else {"mask": torch.cat(mask)})))


class ReleasedViT(nn.Module):
    """A transformer in small, with the interface of facebookresearch/dinov2."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.mask_token = nn.Parameter(torch.randn(1, WIDTH))
        self.block = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.norm = nn.LayerNorm(WIDTH)

    def forward_features(self, x, masks=None):
        tokens = self.patches(x.to(self.mask_token.dtype)).flatten(2).transpose(1, 2)
        if masks is not None:
            tokens = torch.where(masks[..., None], self.mask_token, tokens)
        mean = tokens.mean(1, keepdim=True)
        tokens = torch.cat([mean, tokens], 1)
        tokens = self.norm(tokens + self.block(torch.cat([tokens, mean.expand_as(tokens)], 2)))
        return {"x_norm_clstoken": tokens[:, 0], "x_norm_patchtokens": tokens[:, 1:]}

    def forward(self, *args, is_training=False, **kwargs):
        output = self.forward_features(*args, **kwargs)
        return output if is_training else output["x_norm_clstoken"]


class WithHeads(nn.ModuleDict):
    """Its forward is what the objective keeps of a teacher: class logits and patch tokens."""

    def forward(self, views):
        tokens = self["backbone"](torch.cat(views), is_training=True)
        return self["dino_head"](tokens["x_norm_clstoken"]), tokens["x_norm_patchtokens"]


def with_heads(shared=False):
    """A network as the released code keeps it."""
    heads = {"dino_head": nn.Linear(WIDTH, PROTOTYPES)}
    if not shared:
        heads["ibot_head"] = nn.Linear(WIDTH, PATCH_PROTOTYPES)
    return WithHeads({"backbone": ReleasedViT(), **heads})


# ---- trainers ----

RECIPE = make_recipe()
MASKED_RECIPE = make_recipe(masking=Masking(patch_size=PATCH, ratio=(0.0, 0.4), variance=(0.0, 0.2)))


class ReplacedCenters(nn.Module):
    """What the official losses keep: centres that each update replaces."""

    def __init__(self, prototypes, patch_prototypes):
        super().__init__()
        self.register_buffer("center", torch.randn(1, prototypes) * 0.1)
        self.register_buffer("center2", torch.randn(1, 1, patch_prototypes) * 0.1)

    @torch.no_grad()
    def update(self, teacher, teacher_patches=None):
        self.center = self.center * 0.9 + teacher.float().mean(0, keepdim=True) * 0.1
        if teacher_patches is not None:
            self.center2 = self.center2 * 0.9 + teacher_patches.float().mean((0, 1), keepdim=True) * 0.1


def train_mode_teacher(student):
    """Batch normalisation and dropout as they are: DINO's teacher stays in training mode."""
    teacher = copy.deepcopy(student)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


def dino(images=5):
    student = MultiCrop(make_encoder(), nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, PROTOTYPES)))
    teacher = train_mode_teacher(student)
    loss = ReplacedCenters(PROTOTYPES, 1)
    model = nn.ModuleDict({"student": student, "teacher": teacher, "loss": loss})

    def train(views):
        with torch.no_grad():
            targets = teacher(views[:2])
        logits = student(views)
        terms = dino_loss(targets.chunk(2), logits.chunk(len(views)), loss.center).mean()
        loss.update(targets)
        update_momentum(student, teacher, m=0.9)
        return terms.float()

    objective = objectives.DINO(student, teacher, lambda: loss.center, 0.04)
    return Trainer(objective, model, train, {"params": make_rows(RECIPE, images)})


def ibot(images=5, shared=False):
    student = MaskedMultiCrop(PatchBackbone(True), MaskedHead(shared))
    teacher = MaskedMultiCrop(PatchBackbone(False), MaskedHead(shared))
    teacher.load_state_dict(student.state_dict(), strict=False)
    loss = ReplacedCenters(PROTOTYPES, PROTOTYPES if shared else PATCH_PROTOTYPES)
    model = nn.ModuleDict({"student": student, "teacher": teacher, "loss": loss})
    masks = torch.rand(2, images, GLOBAL_SIDE // PATCH, GLOBAL_SIDE // PATCH, generator=torch.Generator().manual_seed(0)) < 0.4

    def train(views):
        with torch.no_grad():
            targets, patch_targets = teacher(views[:2])
        logits, patches = student(views[:2], mask=list(masks))
        student.backbone.masked_im_modeling = False
        local = [student([view])[0] for view in views[2:]]
        student.backbone.masked_im_modeling = True
        terms = dino_loss(targets.chunk(2), [*logits.chunk(2), *local], loss.center).mean()
        terms = terms + patch_loss(patch_targets.chunk(2), patches.chunk(2), masks, loss.center2).mean()
        loss.update(targets, patch_targets)
        return terms.float()

    objective = objectives.IBOT(student, teacher, lambda: loss.center, lambda: loss.center2, 0.04, 0.07)
    return Trainer(objective, model, train, {"params": make_rows(MASKED_RECIPE, images)})


def dinov2(images=5, centering="softmax"):
    """Of two heads, without KoLeo's regulariser; under "sinkhorn" the codes stand in for the centred teacher."""
    student, teacher = with_heads(), with_heads()
    teacher.load_state_dict(student.state_dict())
    loss = ReplacedCenters(PROTOTYPES, PATCH_PROTOTYPES)
    model = nn.ModuleDict({"student": student, "teacher": teacher, "loss": loss})
    masks = torch.rand(2, images, GLOBAL_SIDE // PATCH, GLOBAL_SIDE // PATCH, generator=torch.Generator().manual_seed(0)) < 0.4

    def outputs(network, views, masks=None):
        tokens = [
            network["backbone"](v, is_training=True, masks=None if masks is None else masks[k].flatten(1)) for k, v in enumerate(views)
        ]
        return [network["dino_head"](t["x_norm_clstoken"]) for t in tokens], [network["ibot_head"](t["x_norm_patchtokens"]) for t in tokens]

    def train(views):
        with torch.no_grad():
            targets, patch_targets = outputs(teacher, views[:2])
        logits, patches = outputs(student, views[:2], masks)
        local, _ = outputs(student, views[2:])
        terms = dino_loss(targets, [*logits, *local], loss.center).mean() + patch_loss(patch_targets, patches, masks, loss.center2).mean()
        loss.update(torch.cat(targets), torch.cat(patch_targets))
        update_momentum(student, teacher, m=0.9)
        return terms.float()

    centers = (None, None) if centering == "sinkhorn" else (lambda: loss.center, lambda: loss.center2)
    objective = objectives.DINOv2(student, teacher, *centers, 0.04, centering=centering)
    return Trainer(objective, model, train, {"params": make_rows(MASKED_RECIPE, images)})


def msn(images=5):
    """As lightly's example trains it, whose model holds the target network; nothing is masked."""
    student = MultiCrop(make_encoder(), nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH)))
    teacher = train_mode_teacher(student)
    prototypes = nn.Linear(WIDTH, PROTOTYPES, bias=False)
    model = nn.ModuleDict({"student": student, "teacher": teacher, "prototypes": prototypes})

    def train(views):
        update_momentum(student, teacher, m=0.9)
        target, *_ = teacher(views[:2]).chunk(2)
        anchors = student(views[1:]).chunk(len(views) - 1)
        return msn_loss(target.detach(), anchors, prototypes.weight).mean().float()

    objective = objectives.MSN(student=student, teacher=teacher, prototypes=prototypes)
    return Trainer(objective, model, train, {"params": make_rows(RECIPE, images)})


@contextmanager
def quiet(model):
    """The model as scoring runs it, without a selector: evaluation mode, no gradient."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in was_training.items():
            module.training = training


def chosen(pixels: list[Tensor], slots: Tensor) -> list[Tensor]:
    """The views in some slots of each image."""
    return [torch.stack([pixels[int(slot)][image] for image, slot in enumerate(column)]) for column in slots.unbind(1)]


DISTILLERS = {"DINO": dino, "iBOT": ibot, "iBOT with one head": lambda: ibot(shared=True), "DINOv2": dinov2, "MSN": msn}
DISTILLERS["DINOv2 by Sinkhorn-Knopp"] = lambda: dinov2(centering="sinkhorn")
