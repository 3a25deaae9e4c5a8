"""``python -m bert4kexue`` is the command ``bert4kexue``."""

import sys

from bert4kexue.cli import main

sys.exit(main())
