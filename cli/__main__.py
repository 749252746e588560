"""``python -m roadbed.cli``."""

from .main import main

main()
