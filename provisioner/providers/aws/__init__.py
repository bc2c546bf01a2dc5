"""EC2: spot and on-demand machines of an AWS account."""
