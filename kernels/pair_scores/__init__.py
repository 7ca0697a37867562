"""Tables of scores between the views of one image, from the views' embeddings."""
