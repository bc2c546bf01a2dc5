"""`python -m provisioner` is `runner`."""

from provisioner.cli.main import main

main()
