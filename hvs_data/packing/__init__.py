"""Any source into tar shards that are read faster: smaller pictures, or pixels that need no decoder."""
