"""`python -m gpt2v`."""

import sys

from gpt2v.cli.main import main

sys.exit(main())
