"""The agents' routes: the one place of the web that speaks the wire."""

from .messages import PROTOCOL
from .routes import agent_routes

__all__ = ["PROTOCOL", "agent_routes"]
