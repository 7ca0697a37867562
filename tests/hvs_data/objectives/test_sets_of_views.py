"""Methods of more than two views against lightly's losses of every combination: SwAV and LeJEPA with local views, FastSiam, MMCR."""

# Axes: B image, V view slot, D embedding, K prototype.

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import MMCRLoss, NegativeCosineSimilarity, SwaVLoss
from lightly.loss.lejepa_loss import LeJEPALoss, lejepa_invariance_loss
from torch import nn

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.objectives import MMCR, FastSiam, LeJEPA, SwAV
from hvs_data.recipes import Recipe, Role
from multi_crop import make_pixels, make_rows

IMAGES, WIDTH, PROTOTYPES = 16, 6, 9
# The witness takes the losses of float64 networks in float64; what the objectives compute in float32 errs by some units of 6e-8 of numbers
# up to 1 / .1, the logits over SwAV's temperature.
TOLERANCE = 2e-5


def network(seed, width=WIDTH):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8, width)).double()


def recipe_of(candidates, emitted, locals_=0, local_views=0):
    local = (Role("local", candidates=locals_, emitted=local_views, size=4),) if locals_ else ()
    return Recipe("crops", (Role(candidates=candidates, emitted=emitted, size=8), *local))


def every_combination(recipe):
    (globals_, *local) = recipe.roles
    of_locals = combinations(range(globals_.candidates, recipe.num_views), local[0].emitted) if local else [()]
    return [(*one, *other) for other in of_locals for one in combinations(range(globals_.candidates), globals_.emitted)]


def chosen(objective, recipe, **options):
    pixels = make_pixels(recipe, IMAGES, dtype=torch.float64)
    selection = hvs.HardViewSelector(objective, **options).select(pixels, make_rows(recipe, IMAGES))
    return selection, pixels


def check(selection, recipe, loss_of):
    """Each image's chosen views have the largest of all combinations' losses, and that loss; ``loss_of`` gives all images' [B]."""
    losses = {slots: loss_of(slots) for slots in every_combination(recipe)}
    largest_B = torch.stack(list(losses.values())).amax(0)
    for image, slots in enumerate(selection.slots.tolist()):
        assert float(losses[tuple(slots)][image]) >= float(largest_B[image]) - TOLERANCE
        assert float(selection.loss[image]) == pytest.approx(float(largest_B[image]), abs=TOLERANCE)
    assert len(set(map(tuple, selection.slots.tolist()))) > 3


@pytest.mark.parametrize(
    ("globals_", "locals_", "queued"), [((4, 2), (5, 3), 0), ((5, 3), (4, 2), 0), ((4, 2), (4, 2), 11), ((5, 3), (0, 0), 0)]
)
@torch.no_grad()
def test_swav_is_the_released_loss_of_any_numbers_of_views(globals_, locals_, queued):
    encoder, prototypes = network(0), nn.Linear(WIDTH, PROTOTYPES, bias=False).double()
    prototypes.weight.copy_(F.normalize(prototypes.weight, dim=1))
    queue = (
        F.normalize(torch.randn(queued, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64), dim=1) if queued else None
    )
    recipe = recipe_of(*globals_, *locals_)
    selection, pixels = chosen(SwAV(encoder=encoder, prototypes=prototypes, queue=queue), recipe, score_locals=True)
    scores = [prototypes(F.normalize(encoder(view), dim=1)) for view in pixels]
    count = recipe.roles[0].emitted

    def released(slots, images=slice(None)):
        """lightly's loss, whose codes are made over all images, of some of them."""
        criterion = SwaVLoss()
        criterion.subloss = lambda z, q: -(q * F.log_softmax(z / 0.1, dim=1)).sum(1)[images].mean()
        high, low = ([scores[slot] for slot in part] for part in (slots[:count], slots[count:]))
        return criterion(high, low, None if queue is None else [prototypes(queue)] * count)[0]

    def of_images(slots):
        return torch.stack([released(slots, slice(image, image + 1)) for image in range(IMAGES)])

    check(selection, recipe, of_images)
    slots = every_combination(recipe)[0]
    whole = SwaVLoss()(
        [scores[s] for s in slots[:count]], [scores[s] for s in slots[count:]], [prototypes(queue)] * count if queued else None
    )
    assert float(of_images(slots).mean()) == pytest.approx(float(whole), rel=1e-9)


def test_swav_takes_one_queue_for_local_views():
    queue = F.normalize(torch.randn(2, 7, WIDTH, dtype=torch.float64), dim=2)
    objective = SwAV(encoder=network(0), prototypes=nn.Linear(WIDTH, PROTOTYPES, bias=False).double(), queue=queue)
    with pytest.raises(SelectionError, match="expected one queue for all views under score_locals"):
        chosen(objective, recipe_of(4, 2, 3, 1), score_locals=True)
    chosen(objective, recipe_of(4, 2, 1, 1))


@pytest.mark.parametrize(("globals_", "locals_"), [((4, 2), (0, 0)), ((4, 2), (6, 4)), ((5, 3), (4, 2)), ((6, 4), (0, 0))])
@torch.no_grad()
def test_lejepa_is_the_published_prediction_term(globals_, locals_):
    encoder, recipe = network(0), recipe_of(*globals_, *locals_)
    selection, pixels = chosen(LeJEPA(encoder=encoder), recipe)
    z, count = torch.stack([encoder(view) for view in pixels]), recipe.roles[0].emitted

    def of_images(slots):
        views = z[list(slots)]
        return torch.stack([lejepa_invariance_loss(all_proj=one, global_proj=one[:count]) for one in views.split(1, dim=1)])

    check(selection, recipe, of_images)
    if locals_[1]:
        slots = list(every_combination(recipe)[0])
        criterion = LeJEPALoss(lambda_param=0.0).double()
        whole = criterion(local_proj=z[slots[count:]], global_proj=z[slots[:count]])
        assert float(of_images(slots).mean()) == pytest.approx(float(whole), rel=1e-9)


@pytest.mark.parametrize("views", [2, 3, 4])
@torch.no_grad()
def test_fast_siam_is_the_loss_of_lightlys_example(views):
    encoder, predictor, recipe = network(0), nn.Linear(WIDTH, WIDTH).double(), recipe_of(6, views)
    selection, pixels = chosen(FastSiam(encoder=encoder, predictor=predictor), recipe)
    z = torch.stack([encoder(view) for view in pixels])
    p = predictor(z)

    def of_images(slots):
        """The loop of lightly's example over the views, with each image for itself."""
        losses = torch.zeros(IMAGES, dtype=torch.float64)
        for image in range(IMAGES):
            zs, ps = z[list(slots), image : image + 1], p[list(slots), image : image + 1]
            for i in range(views):
                mask = torch.arange(views) != i
                losses[image] += NegativeCosineSimilarity()(ps[i], torch.mean(zs[mask], dim=0)) / views
        return losses

    check(selection, recipe, of_images)


@pytest.mark.parametrize("momentum", [False, True])
@torch.no_grad()
def test_mmcr_takes_the_views_of_the_shortest_centroid(momentum):
    """A proxy: with the other images as they are, shorter centroids raise lightly's loss."""
    encoder, target, recipe = network(0), network(1), recipe_of(6, 4)
    objective = MMCR(encoder=encoder, target_encoder=target) if momentum else MMCR(encoder=encoder)
    selection, pixels = chosen(objective, recipe)
    z = torch.stack([F.normalize(encoder(view), dim=1) for view in pixels])
    zm = torch.stack([F.normalize(target(view), dim=1) for view in pixels]) if momentum else z

    def of_images(slots):
        return 1 - torch.cat([z[list(slots)], zm[list(slots)]]).mean(0).square().sum(1)

    check(selection, recipe, of_images)
    easiest = hvs.HardViewSelector(objective, policy="easiest").select(pixels, make_rows(recipe, IMAGES))
    criterion, image_B1 = MMCRLoss(lmda=0.0), torch.arange(IMAGES)[:, None]
    hard, easy = (
        float(criterion(z.transpose(0, 1)[image_B1, one.slots], zm.transpose(0, 1)[image_B1, one.slots])) for one in (selection, easiest)
    )
    assert hard > easy


def test_mmcr_takes_no_local_views():
    with pytest.raises(SelectionError, match="MMCR has no encode_local"):
        chosen(MMCR(encoder=network(0)), recipe_of(4, 2, 2, 1))


def test_losses_that_are_no_sum_are_looked_at_one_by_one():
    with pytest.raises(SelectionError, match="a loss that is no sum over pairs"):
        hvs.HardViewSelector(FastSiam(encoder=network(0), predictor=network(0))).check(recipe_of(20, 8))
    hvs.HardViewSelector(LeJEPA(encoder=network(0))).check(recipe_of(20, 8))
