"""A folder of forges like provisioner/forges: what lies in it and is in no list."""
