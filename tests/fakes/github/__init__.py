"""GitHub as a server: real HTTP, real state, the published limits, and what goes wrong there when it is told to."""
