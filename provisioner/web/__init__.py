"""HTTP: the people's API, the agents' routes, and the listeners that carry them."""
