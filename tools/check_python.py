"""Stop before an environment is made with a Python that TensorFlow and Keras have no release for.

Run by the Makefile with the interpreter that PYTHON names; any Python 3 can run it.
"""

import sys

LOWEST, HIGHEST = (3, 11), (3, 13)

if not LOWEST <= sys.version_info[:2] <= HIGHEST:
    sys.exit(
        "bert4kexue needs Python 3.11, 3.12 or 3.13; "
        f"{sys.executable} is {sys.version.split()[0]}. "
        "Name another one, for example: make test PYTHON=python3.12"
    )
