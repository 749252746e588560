"""Roadbed: bare Debian and Ubuntu machines to a production Next.js platform.

The sub-packages (cli, engine, deploys, ...) are links to the top-level folders of the
repository, so that a wheel, an editable install and the type checker see one name.
"""

__version__ = "0.1.0"
