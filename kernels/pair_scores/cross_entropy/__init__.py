"""Cross-entropies between teachers' and students' distributions over many prototypes, for all pairs of an image's views at once."""
