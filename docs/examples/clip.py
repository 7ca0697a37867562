"""CLIP with Hugging Face's model on a folder of images, whose texts a file names: python clip.py FOLDER CAPTIONS.json"""

import argparse
import json

import torch
from support.captions import VOCABULARY, tokenized
from transformers import CLIPConfig, CLIPModel

import hvs_data as hvs

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("captions", help="a JSON file: the text of each image, by its path below the folder")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
vision, text = {**small, "image_size": args.size, "patch_size": args.size // 8}, {**small, **VOCABULARY}
model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
with open(args.captions) as file:
    captions = json.load(file)

source = hvs.open_source(args.data)
tokens = tokenized(captions[source.name_of(index)] for index in range(len(source))).to(device)
plain = hvs.recipes.ColorJitter(p=0)
role = hvs.recipes.Role(candidates=4, emitted=1, size=args.size, scale=(0.5, 1.0), jitter=plain, gray=0.0, blur=0.0)
recipe = hvs.recipes.Recipe("clip", (role,), interpolation="bicubic")
loader = hvs.HardViewLoader(
    hvs.ViewLoader(source, recipe, args.batch_size, device, drop_last=True),
    hvs.HardViewSelector(hvs.objectives.CLIP(model)),
    labels=lambda batch: tokens[batch.index],
)

for epoch in range(args.epochs):
    for (images,), texts in loader:
        loss = model(pixel_values=images, input_ids=texts, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}, loss {loss:.4f}")
