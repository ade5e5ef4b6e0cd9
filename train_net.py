#!/usr/bin/env python
"""Train or evaluate a detector: `python train_net.py --config-file CONFIG [key=value ...]`.

CONFIG is a LazyConfig (.py) or a yacs config (.yaml). Overrides are `key=value` for both; `--help`
lists the other options.
"""

from efpnbs_d2.engine.cli import main

if __name__ == "__main__":
    main()
