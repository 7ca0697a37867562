"""How the model is asked: candidate views in, outputs and tables of losses out."""
