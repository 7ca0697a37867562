"""Log-sum-exp of the similarities between each view of an image and one view of all others: the negatives of contrastive losses."""
