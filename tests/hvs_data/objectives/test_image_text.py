"""CLIP and SigLIP against the losses of Hugging Face's models and formulas in float64; one view of an image is chosen."""

import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import hvs_data as hvs
from example_scripts import EXAMPLES, falls, run_script, write_photos
from hvs_data import SelectionError
from hvs_data.objectives import CLIP, SigLIP, SimSiam
from hvs_data.recipes import Recipe, Role

D, SIDE, IMAGES, VIEWS, TOKENS = 8, 8, 30, 5, 6
RECIPE = Recipe("one of five", (Role(candidates=VIEWS, emitted=1, size=SIDE, scale=(0.3, 1.0)),))
# Float32 against float64 of logits x below 1 / t (and a bias): cosines err by less than (D + 4) units of 2^-24, x by that over t and by
# two more units of x; a cross-entropy, a difference of two of them and a log-sum-exp of M, by 2 of these and M units.
U = 2.0**-24


def tolerance(scale, bias=0.0, images=IMAGES):
    return 2 * ((D + 4) * scale + 2 * (scale + abs(bias))) * U + (images + 4) * (scale + abs(bias) + np.log(images)) * U


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.dropout, self.head = nn.Embedding(50, D), nn.Dropout(0.4), nn.Linear(D, D)

    def forward(self, tokens):
        return self.head(self.dropout(self.table(tokens)).mean(1))


def image_encoder():
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, D))


def pixels_of(views=VIEWS, images=IMAGES):
    return list(torch.randn(views, images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))


def tokens_of(images=IMAGES):
    return torch.randint(50, (images, TOKENS), generator=torch.Generator().manual_seed(1))


def rows_of(recipe=RECIPE, images=IMAGES):
    return hvs.sample_views(recipe, seed=0, epoch=0, index=range(images), height=[40] * images, width=[50] * images)


def unit(x):
    return nn.functional.normalize(x.double(), dim=-1)


def clip_losses(z, t, temperature):
    """Of one view of every image: [B, D] twice -> float64 [B]."""
    logits = unit(z) @ unit(t).T / temperature
    target = torch.arange(len(z))
    return (
        nn.functional.cross_entropy(logits, target, reduction="none") + nn.functional.cross_entropy(logits.T, target, reduction="none")
    ) / 2


def siglip_losses(z, t, temperature, bias):
    logits = unit(z) @ unit(t).T / temperature + bias
    signs = 2 * torch.eye(len(z), dtype=torch.float64) - 1
    return -nn.functional.logsigmoid(signs * logits).sum(1)


KINDS = {"CLIP": (CLIP, clip_losses, (0.07,)), "SigLIP": (SigLIP, siglip_losses, (0.1, -10.0))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_view_is_the_hardest_against_its_text(kind):
    make, losses_of, settings = KINDS[kind]
    torch.manual_seed(0)
    images, texts = image_encoder(), Text()
    pixels, tokens = pixels_of(), tokens_of()
    selector = hvs.HardViewSelector(make(image_encoder=images, text_encoder=texts))
    (view,) = selector(pixels, rows_of(), labels=tokens)
    with torch.no_grad():
        texts.eval()
        z = images(torch.cat(pixels)).view(VIEWS, IMAGES, D)  # in training mode, all views in one batch, as scoring has it
        losses = torch.stack([losses_of(z_v, texts(tokens), *settings) for z_v in z], dim=1)
    bound = tolerance(1 / settings[0], *settings[1:])
    selection = selector.last
    np.testing.assert_allclose(selection.loss, losses.amax(1), rtol=0, atol=bound)
    np.testing.assert_allclose(selection.losses.diagonal(dim1=1, dim2=2), losses, rtol=0, atol=bound)
    best, second = losses.topk(2, dim=1).values.unbind(1)
    clear = best - second > 2 * bound
    assert torch.equal(selection.slots[clear, 0], losses.argmax(1)[clear]) and clear.sum() > IMAGES / 2
    assert selection.slots.shape == (IMAGES, 1) and torch.equal(selection.pair, selection.slots.expand(-1, 2))
    assert torch.equal(view, torch.stack(pixels, 1)[torch.arange(IMAGES), selection.slots[:, 0]])
    assert selection.global_views == 1 and torch.equal(selection.iou, torch.ones(IMAGES))


@pytest.mark.parametrize("kind", KINDS)
def test_of_more_views_it_is_the_mean(kind):
    make, losses_of, settings = KINDS[kind]
    z, t = torch.randn(IMAGES, 4, D), torch.randn(IMAGES, D)
    table = make(image_encoder=nn.Identity()).pair_losses(z, labels=t)
    losses = torch.stack([losses_of(z[:, v], t, *settings) for v in range(4)], 1)
    np.testing.assert_allclose(table, (losses[:, :, None] + losses[:, None]) / 2, rtol=0, atol=tolerance(1 / settings[0], *settings[1:]))
    half = make(image_encoder=nn.Identity()).pair_losses(z.bfloat16(), labels=t.bfloat16())
    rounded = torch.stack([losses_of(z[:, v].bfloat16(), t.bfloat16(), *settings) for v in range(4)], 1)
    np.testing.assert_allclose(half.diagonal(dim1=1, dim2=2), rounded, rtol=0, atol=tolerance(1 / settings[0], *settings[1:]))


def hugging_face(kind):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision, text = {**small, "image_size": SIDE, "patch_size": 4}, {**small, "vocab_size": 50, "max_position_embeddings": TOKENS}
    torch.manual_seed(0)
    if kind == "CLIP":
        text |= {"eos_token_id": 49, "bos_token_id": 48, "pad_token_id": 0}
        return transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=D))
    text |= {"projection_size": 16}
    return transformers.SiglipModel(transformers.SiglipConfig(vision_config=vision, text_config=text))


@pytest.mark.parametrize("as_dict", [False, True], ids=["tokens", "dict"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_a_batch_is_hugging_faces_loss(kind, as_dict):
    model = hugging_face(kind).eval()
    with torch.no_grad():
        model.logit_scale.fill_(1.7)
        if kind == "SigLIP":
            model.logit_bias.fill_(-2.0)
    view, tokens = pixels_of(1)[0], tokens_of()
    objective = KINDS[kind][0](model)
    selector = hvs.HardViewSelector(objective)
    twice = RECIPE.with_roles(candidates=2)
    selector([view, view], rows_of(twice), labels={"input_ids": tokens, "attention_mask": torch.ones_like(tokens)} if as_dict else tokens)
    with torch.no_grad():
        expected = model(pixel_values=view, input_ids=tokens, return_loss=True).loss
    # of embeddings of 16 numbers, and the model's own float32
    assert float(selector.last.loss.double().mean()) == pytest.approx(float(expected), abs=2 * tolerance(2 * np.exp(1.7), 2.0))


def test_settings_are_read_at_each_scoring():
    model = hugging_face("SigLIP").eval()
    objective = SigLIP(model)
    z, tokens = torch.randn(IMAGES, 2, 16), tokens_of()
    with torch.no_grad():
        before = objective.pair_losses(z, labels=tokens)
        for parameter in (model.logit_scale, model.logit_bias):
            parameter.add_(0.5)
            after = objective.pair_losses(z, labels=tokens)
            assert (after - before).abs().max() > 1e-3
            before = after


class Captioned(torch.utils.data.Dataset):
    def __init__(self, images=24):
        draw = np.random.default_rng(0)
        self.pictures = draw.integers(0, 256, (images, 20, 24, 3), dtype=np.uint8)

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index], -1


def test_from_a_loader_to_a_trainer():
    """Texts by index, the hardest view of each image in a batch, and unscored steps that hand out one view as well."""
    torch.manual_seed(0)
    images, texts, tokens = image_encoder(), Text(), tokens_of(24)
    views = hvs.ViewLoader(Captioned(), RECIPE, batch_size=8, seed=3)
    selector = hvs.HardViewSelector(CLIP(image_encoder=images, text_encoder=texts), every=2)
    loader = hvs.HardViewLoader(views, selector, labels=lambda batch: tokens[batch.index])
    monitor = hvs.Monitor(loader)
    scored = []
    for batch in loader:
        (view,), batch_tokens = batch
        assert torch.equal(batch_tokens, tokens[batch.index]) and view.shape == (8, 3, SIDE, SIDE)
        scored.append(batch.selection.scored)
        with torch.no_grad():
            losses = clip_losses(images(view), texts(batch_tokens), 0.07)
        assert losses.isfinite().all()
    assert scored == [True, False, True]
    numbers = monitor.numbers()
    # of a pair there is nothing to tell
    assert (
        "hvs/iou_chosen" not in numbers and numbers["hvs/loss_chosen"] >= numbers["hvs/loss_mean"] and 0 < numbers["hvs/area_chosen"] <= 1
    )


def test_the_example_trains(tmp_path, monkeypatch):
    """Pictures of two colours, and texts that name them."""
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(EXAMPLES)
    photos = write_photos(tmp_path / "photos", 24)
    source = hvs.open_source(photos)
    captions = {name: f"a picture of the {name[:5]}, number {name[-6]}" for name in map(source.name_of, range(len(source)))}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    losses, selections = run_script("clip.py", photos, tmp_path / "captions.json", "--batch-size", 12, "--size", 32, "--epochs", 8)
    assert falls(losses) and len(losses) == len(selections) == 8 * 2
    for selection in selections:
        candidates_BV = selection.losses.diagonal(dim1=1, dim2=2)
        assert torch.equal(selection.loss, candidates_BV.amax(1)) and (candidates_BV.std(1) > 0).all()


def test_one_view_with_extra_ones_a_rule_and_other_policies():
    pixels, rows, t = pixels_of(), rows_of(), torch.randn(IMAGES, D)
    torch.manual_seed(0)
    objective = CLIP(image_encoder=image_encoder())
    exact = hvs.HardViewSelector(objective).select(pixels, rows, labels=t)
    losses = exact.losses.diagonal(dim1=1, dim2=2)
    extra = hvs.HardViewSelector(objective, extra_views=1).select(pixels, rows, labels=t)
    assert torch.equal(extra.slots[:, :1], exact.slots) and (extra.slots[:, 1] == (exact.slots[:, 0] == 0).long()).all()
    easiest = hvs.HardViewSelector(objective, policy="easiest").select(pixels, rows, labels=t)
    assert torch.equal(easiest.slots[:, 0], losses.argmin(1))
    large = hvs.HardViewSelector(objective, allowed=hvs.rules.MinArea(0.6)).select(pixels, rows, labels=t)
    area = rows.source_box[..., 2:].double().prod(-1) / (40 * 50)
    open_BV = area >= 0.6
    expected = losses.masked_fill(~open_BV, -torch.inf).argmax(1).where(open_BV.any(1), 0)
    assert torch.equal(large.slots[:, 0], expected) and large.none_allowed == int((~open_BV.any(1)).sum())
    tempered = hvs.HardViewSelector(objective, policy="softmax", temperature=1e-6).select(pixels, rows, labels=t)
    assert torch.equal(tempered.slots, exact.slots)


def test_what_does_not_fit_is_refused():
    rows, t, objective = rows_of(), torch.randn(IMAGES, D), CLIP(image_encoder=image_encoder())
    with pytest.raises(SelectionError, match="expected at least 2 emitted views .* under SimSiam, .* got 1"):
        hvs.HardViewSelector(SimSiam(encoder=image_encoder(), predictor=nn.Identity())).check(RECIPE)
    for options in ({"prefilter": 3}, {"budget": "cheap"}, {"policy": "anchored"}, {"policy": "smallest_iou"}):
        with pytest.raises(SelectionError, match="expected one emitted view of an image without prefilter"):
            hvs.HardViewSelector(objective, **options).check(RECIPE)
    for labels, message in (
        (torch.zeros(IMAGES, dtype=torch.int64), r"expected the texts of CLIP as labels, tokens .* got torch.int64 \[30\]"),
        (tokens_of(), r"embeddings \[B, D\] without a text encoder, got torch.int64 \[30, 6\]"),
        (t[:, :5], r"expected one text embedding \[30, 8\] for each image, .* got torch.float32 \[30, 5\]"),
        (None, "CLIP takes the images' labels, got none"),
    ):
        with pytest.raises(SelectionError, match=message):
            hvs.HardViewSelector(objective).select(pixels_of(), rows, labels=labels)
    with pytest.raises(SelectionError, match="needs either a model, or image_encoder="):
        CLIP()
    with pytest.raises(SelectionError, match="get_image_features and get_text_features, or encode_image and encode_text, got Linear"):
        CLIP(nn.Linear(2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        views = hvs.ViewLoader(Captioned(), RECIPE, batch_size=8)
        with pytest.raises(hvs.HvsError, match="expected labels as a function of a batch, got Tensor"):
            hvs.HardViewLoader(views, hvs.HardViewSelector(objective), labels=t)
