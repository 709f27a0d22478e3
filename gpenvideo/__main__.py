"""`python -m gpenvideo`."""

from gpenvideo.cli import main

main()
