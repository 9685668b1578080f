import sys

from artist_bio_gen.cli.main import main

sys.exit(main())
