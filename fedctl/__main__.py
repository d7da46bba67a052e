"""`python -m fedctl`: the same as the `fedctl` command."""

from fedctl.cli.main import main

main()
