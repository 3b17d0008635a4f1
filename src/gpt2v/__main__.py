"""`python -m gpt2v`."""

import sys

from gpt2v.cli import main

sys.exit(main())
