"""Gitea and Forgejo: one family, whose APIs have drifted apart where runners and jobs are concerned."""
