"""`python -m statewise`."""

import sys

from statewise.cli.main import main

sys.exit(main())
