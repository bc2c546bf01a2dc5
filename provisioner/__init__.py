"""The controller: rents machines for as long as there is work for them and not a minute longer."""

__version__ = "0.1.0"
