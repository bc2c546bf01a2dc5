"""GitLab: gitlab.com and self-managed, a project, a group or the whole instance as a site."""
