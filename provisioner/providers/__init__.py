"""One folder a cloud, all of one shape; `registry` says which there are."""
