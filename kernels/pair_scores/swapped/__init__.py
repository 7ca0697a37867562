"""Cross-entropy between the code of one view, made by Sinkhorn's iteration, and the prediction from another view of the image."""
