"""`python -m gpt2v`, and so `torchrun -m gpt2v`."""

import sys

from gpt2v.cli import main

sys.exit(main())
