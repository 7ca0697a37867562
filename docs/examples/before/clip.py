"""CLIP with Hugging Face's model on a folder of images, whose texts a file names: python clip.py FOLDER CAPTIONS.json"""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from support.captions import VOCABULARY, tokenized
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from transformers import CLIPConfig, CLIPModel


class Captioned(Dataset):
    def __init__(self, root, captions, size):
        self.root, self.names = Path(root), sorted(captions)
        self.tokens = tokenized(captions[name] for name in self.names)
        crop = v2.RandomResizedCrop(size, (0.5, 1.0), interpolation=v2.InterpolationMode.BICUBIC)
        normalize = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.view = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, True), normalize])

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return self.view(Image.open(self.root / self.names[index]).convert("RGB")), self.tokens[index]


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

loader = DataLoader(Captioned(args.data, captions, args.size), args.batch_size, shuffle=True, drop_last=True, num_workers=2)

for epoch in range(args.epochs):
    for images, texts in loader:
        images, texts = images.to(device), texts.to(device)
        loss = model(pixel_values=images, input_ids=texts, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}, loss {loss:.4f}")
