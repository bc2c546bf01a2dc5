"""The people's API, one router a subject."""
